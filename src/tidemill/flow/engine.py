"""Runs pipelines: starts, resumes and cancels runs, and runs single steps."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from tidemill.core.artifact import Artifact
from tidemill.core.pipeline import Graph, Pipeline
from tidemill.core.policy import ModelPolicy
from tidemill.core.run import Interruption, Run
from tidemill.errors import Cancelled, Conflict, InputError, NotFound, Stopped, TidemillError
from tidemill.faults import maybe_crash
from tidemill.flow.cache import StepCache
from tidemill.flow.engines import open_engine
from tidemill.flow.execute import FRESH_START, Execution, Progress, StartState
from tidemill.flow.plan import plan, select_step
from tidemill.flow.purity import warn_of_effects
from tidemill.flow.record import Recorder, new_run, start_attempt
from tidemill.flow.session import Session
from tidemill.flow.stated import read_params
from tidemill.host.programs import guard_programs

RunResult = tuple[Run, TidemillError | None]


def run(
    session: Session,
    pipeline: Pipeline,
    params: Mapping[str, Any] | None = None,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "",
    identifier: str = "",
) -> RunResult:
    """Run a pipeline; return the finished run and the error that stopped it, if any.

    Invalid parameters raise before a run is created; every other error is recorded in the ledger. Without an `engine`,
    it is that of the pipeline in the policy. `identifier` is the id of the run: if several processes start a run with
    the same id, one of them succeeds.
    """
    graph = plan(pipeline, params or {}, session.project, session.clock)
    warn_of_effects(graph, session.project.folder)
    record = new_run(session, graph, cause or {"by": "hand"}, engine)
    return _start(session, graph, replace(record, id=identifier or record.id), FRESH_START, progress)


def run_once(
    session: Session,
    identifier: str,
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "",
) -> RunResult:
    """Start the run with this id, resume it if its process died, or return it if it is finished.

    Raises
    ------
    Conflict
        If another process is executing the run.
    """
    try:
        existing = session.workspace.ledger.runs.get(identifier)
    except NotFound:
        pipeline = session.pipeline(name)
        return run(session, pipeline, params, cause=cause, progress=progress, engine=engine, identifier=identifier)
    if existing.state in ("running", "interrupted"):
        return resume(session, identifier, cause=cause, progress=progress)
    return existing, None


def run_step(
    session: Session,
    name: str,
    past_run: str,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "",
) -> RunResult:
    """Run one step on the inputs that it had in a past run, without the cache; transient inputs are computed again.

    Raises
    ------
    NotFound
        If the pipeline does not have this step any more.
    InputError
        If the past run did not compute the inputs of the step.
    """
    past = session.workspace.ledger.runs.get(past_run)
    graph = select_step(plan_again(session, past), name)
    inputs = _load_outputs(session, past, graph)
    record = new_run(session, graph, (cause or {"by": "hand"}) | {"step": name, "from": past.id}, engine)
    return _start(session, graph, record, StartState({}, inputs, frozenset({name})), progress)


def resume(
    session: Session,
    identifier: str,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "",
) -> RunResult:
    """Resume a run that failed, was stopped, interrupted or cancelled, with the current code.

    A finished step is not run again if its code, its inputs and the bytes of its outputs are unchanged.

    Raises
    ------
    InputError
        If the run is done.
    Conflict
        If another process is executing the run.
    """
    books = session.workspace.ledger
    known = books.runs.get(identifier)
    run_id = known.id
    with session.workspace.run_locks.lock(run_id, is_resumed=known.state == "running"):
        past = books.runs.get(run_id)
        if past.state == "done":
            raise InputError(f"run {run_id[:13]} is done", f"start a new run: `tidemill run {past.pipeline}`")
        is_elsewhere = past.host.partition(":")[0] != session.host.partition(":")[0]
        if past.state == "running" and is_elsewhere and not session.workspace.run_locks.are_shared:
            raise Conflict(
                f"run {run_id[:13]} is running on {past.host}", f"cancel it first: `tidemill runs cancel {run_id}`"
            )
        graph = plan_again(session, past)
        attempt = start_attempt(past, session, graph, cause or {"by": "hand"}, engine or past.engine)
        start = StartState(StepCache(books, session.workspace.blobs).completed_steps(past), {})
        with books.transaction():
            _interrupt_steps(session, past)
            books.runs.change(run_id, lambda _: attempt)
        return _execute(session, graph, attempt, start, progress)


def cancel(session: Session, identifier: str) -> tuple[Run, int | None]:
    """Mark a run as cancelled; return it and the id of the process on this machine that executes it, if any.

    Raises
    ------
    InputError
        If the run is not running.
    """
    run_id = session.workspace.ledger.runs.get(identifier).id
    process = session.workspace.run_locks.find_process(run_id)

    def mark_cancelled(run: Run) -> Run:
        if run.state != "running":
            raise InputError(f"run {run.id[:13]} is not running: it is {run.state}", "cancel a run that is running")
        return replace(run, state="cancelled", ended=session.clock.now(), error="cancelled by a person")

    return session.workspace.ledger.runs.change(run_id, mark_cancelled), process


def sweep(session: Session) -> list[Run]:
    """Mark the runs whose process died on this machine as interrupted; return these runs."""
    books = session.workspace.ledger
    interrupted = []
    for run_id in session.workspace.run_locks.list_dead():
        with suppress(NotFound), books.transaction():
            run = books.runs.get(run_id)
            if run.state == "running":
                _interrupt_steps(session, run)
                interrupted.append(books.runs.change(run.id, _mark_interrupted))
        session.workspace.run_locks.delete(run_id)
    return interrupted


def interrupt_dead(session: Session, identifier: str) -> None:
    """Mark a run whose process was ended on purpose as interrupted by a signal: its death is no fault of the run."""
    books = session.workspace.ledger
    if session.workspace.run_locks.is_running(identifier):
        return
    with suppress(NotFound), books.transaction():
        run = books.runs.get(identifier)
        if run.state == "running":
            _interrupt_steps(session, run)
            books.runs.change(run.id, lambda run: _mark_interrupted(run, "it was ended with the daemon", "signal"))


def _mark_interrupted(run: Run, error: str = "its process died", interruption: Interruption = "crash") -> Run:
    if run.state != "running":
        return run
    return replace(run, state="interrupted", error=error, interruption=interruption)


def _interrupt_steps(session: Session, run: Run) -> None:
    books = session.workspace.ledger
    for step in books.steps.find(run=run.id):
        if step.state == "running":
            books.steps.change(step.id, lambda step: replace(step, state="interrupted", error="its process died"))


def plan_again(session: Session, past: Run) -> Graph:
    """Return the graph of a past run's pipeline with the same parameters and the current code."""
    pipeline = session.pipeline(past.pipeline)
    params = read_params(past.params)
    if past.model and any(hint is ModelPolicy for hint in pipeline.hints.values()):
        params["model"] = past.model
    return plan(pipeline, params, session.project, session.clock)


def _load_outputs(session: Session, past: Run, graph: Graph) -> dict[str, dict[str, Artifact]]:
    """Return the outputs of the past run's steps that the nodes of the graph need."""
    cache = StepCache(session.workspace.ledger, session.workspace.blobs)
    completed = cache.completed_steps(past)
    outputs = {}
    for need in sorted({need for node in graph.nodes.values() for need in node.needs} - set(graph.nodes)):
        if need not in completed:
            raise InputError(
                f"run {past.id[:13]} has no result of step {need!r}",
                f"resume it first: `tidemill runs resume {past.id}`",
            )
        outputs[need], problem = cache.load_outputs(completed[need])
        if problem:
            raise NotFound(
                f"the output of step {need!r} in run {past.id[:13]} {problem}", "run the whole pipeline again"
            )
    return outputs


def _start(session: Session, graph: Graph, record: Run, start: StartState, progress: Progress | None) -> RunResult:
    """Write the run to the ledger while its lock shows that its process lives, and execute it."""
    with session.workspace.run_locks.lock(record.id):
        maybe_crash("run is alive")
        session.workspace.ledger.runs.add(record)
        maybe_crash("run is started")
        return _execute(session, graph, record, start, progress)


def _execute(session: Session, graph: Graph, record: Run, start: StartState, progress: Progress | None) -> RunResult:
    recorder = Recorder(session, record)
    try:
        with guard_programs():
            Execution(session, graph, recorder, open_engine(session, record.engine), progress, start).run()
    except Stopped as stopped:
        return recorder.close("stopped", stopped.problem), stopped
    except Cancelled as cancelled:
        return recorder.close("cancelled", cancelled.problem), cancelled
    except TidemillError as failed:
        return recorder.close("failed", failed.problem), failed
    except KeyboardInterrupt:
        recorder.close("interrupted", "interrupted by a signal (Ctrl-C)", "signal")
        raise
    except Exception as unforeseen:
        recorder.close("failed", f"{type(unforeseen).__name__}: {unforeseen}")
        raise
    finally:
        if record.engine == "inline":
            open_engine(session, "inline").close()
    return recorder.close("done"), None
