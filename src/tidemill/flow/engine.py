"""Runs a pipeline from plan to ledger: the one way in which anything is run, taken up again, or tried in part."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from tidemill.core.artifact import Artifact
from tidemill.core.pipeline import Graph, Pipeline
from tidemill.core.policy import ModelPolicy
from tidemill.core.run import Run
from tidemill.errors import Cancelled, Conflict, InputError, NotFound, Stopped, TidemillError
from tidemill.faults import reached
from tidemill.flow.cache import Catalog
from tidemill.flow.engines import engine_of
from tidemill.flow.execute import FROM_NOTHING, Execution, Progress, Start
from tidemill.flow.plan import plan, with_only
from tidemill.flow.record import Recorder, another_attempt, new_run
from tidemill.flow.session import Session

Done = tuple[Run, TidemillError | None]


def run(
    session: Session,
    pipeline: Pipeline,
    params: Mapping[str, Any] | None = None,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "inline",
    identifier: str = "",
) -> Done:
    """Run a pipeline; what became of it, and the error that ended it, if one did.

    Bad parameters raise before there is a run; all else leaves a run in the ledger. An `identifier` names it: of
    several processes that begin the same one, one does.
    """
    graph = plan(pipeline, params or {}, session.project, session.clock)
    begun = new_run(session, graph, cause or {"by": "hand"}, engine)
    return _begin(session, graph, replace(begun, id=identifier or begun.id), FROM_NOTHING, progress)


def run_once(
    session: Session,
    identifier: str,
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "inline",
) -> Done:
    """Run a pipeline as the run of that id: begin it, go on with it where its process died, or tell how it ended.

    Raises
    ------
    Conflict
        where it is at work.
    """
    try:
        found = session.workspace.ledger.runs.get(identifier)
    except NotFound:
        pipeline = session.project.code.pipeline(name)
        return run(session, pipeline, params, cause=cause, progress=progress, engine=engine, identifier=identifier)
    if found.state in ("running", "interrupted"):
        return resume(session, identifier, cause=cause, progress=progress)
    return found, None


def run_step(
    session: Session,
    name: str,
    of: str,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "inline",
) -> Done:
    """Run one step on what a past run gave it, whatever the cache has; transient inputs are made again.

    Raises
    ------
    NotFound
        where the run's pipeline has no such step now.
    InputError
        where the past run did not come so far.
    """
    past = session.workspace.ledger.runs.get(of)
    graph = with_only(plan_of(session, past), name)
    given = _given(session, past, graph)
    begun = new_run(session, graph, (cause or {"by": "hand"}) | {"step": name, "from": past.id}, engine)
    return _begin(session, graph, begun, Start({}, given, frozenset({name})), progress)


def resume(
    session: Session,
    identifier: str,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
    engine: str = "",
) -> Done:
    """Go on with a run that failed, was stopped, interrupted or cancelled, by the code as it is now.

    What it finished stays, as long as its code, inputs and bytes are the same; the rest runs.

    Raises
    ------
    InputError
        where it is done.
    Conflict
        where it is at work.
    """
    books = session.workspace.ledger
    found = books.runs.get(identifier)
    with session.workspace.alive.hold(found.id):
        found = books.runs.get(found.id)
        if found.state == "done":
            raise InputError(f"run {found.id[:13]} is done", f"run it anew: `tidemill run {found.pipeline}`")
        if found.state == "running" and found.host.partition(":")[0] != session.host.partition(":")[0]:
            raise Conflict(
                f"run {found.id[:13]} is at work on {found.host}", f"end it first: `tidemill runs cancel {found.id}`"
            )
        graph = plan_of(session, found)
        again = another_attempt(found, session, graph, cause or {"by": "hand"}, engine or found.engine)
        start = Start(Catalog(books, session.workspace.blobs).done(found), {})
        with books.transaction():
            _interrupt_steps(session, found)
            books.runs.change(found.id, lambda _: again)
        return _walk(session, graph, again, start, progress)


def cancel(session: Session, identifier: str) -> tuple[Run, int | None]:
    """Say that a run is cancelled, and which process on this machine is at work on it, to be told.

    Raises
    ------
    InputError
        where it is over already.
    """
    found = session.workspace.ledger.runs.get(identifier)
    process = session.workspace.alive.process(found.id)

    def cancelled(now: Run) -> Run:
        if now.state != "running":
            raise InputError(f"run {now.id[:13]} is over: {now.state}", "only a run at work can be cancelled")
        return replace(now, state="cancelled", ended=session.clock.now(), error="cancelled by a person")

    return session.workspace.ledger.runs.change(found.id, cancelled), process


def sweep(session: Session) -> list[Run]:
    """Write down which runs died with their process on this machine."""
    books = session.workspace.ledger
    swept = []
    for dead in session.workspace.alive.dead():
        with suppress(NotFound), books.transaction():
            found = books.runs.get(dead)
            if found.state == "running":
                _interrupt_steps(session, found)
                swept.append(books.runs.change(found.id, _interrupted))
        session.workspace.alive.forget(dead)
    return swept


def _interrupted(run: Run) -> Run:
    if run.state != "running":
        return run
    return replace(run, state="interrupted", error="its process died", interruption="crash")


def _interrupt_steps(session: Session, found: Run) -> None:
    books = session.workspace.ledger
    for step in books.steps.find(run=found.id):
        if step.state == "running":
            books.steps.change(step.id, lambda one: replace(one, state="interrupted", error="its process died"))


def plan_of(session: Session, past: Run) -> Graph:
    """The graph of a past run's pipeline for its parameters, by the code as it is now."""
    pipeline = session.project.code.pipeline(past.pipeline)
    params = dict(past.params)
    if past.model and any(hint is ModelPolicy for hint in pipeline.hints.values()):
        params["model"] = past.model
    return plan(pipeline, params, session.project, session.clock)


def _given(session: Session, past: Run, graph: Graph) -> dict[str, dict[str, Artifact]]:
    """What the past run gave to the nodes of a graph."""
    catalog = Catalog(session.workspace.ledger, session.workspace.blobs)
    done = catalog.done(past)
    given = {}
    for need in sorted({need for node in graph.nodes.values() for need in node.needs} - set(graph.nodes)):
        if need not in done:
            raise InputError(
                f"run {past.id[:13]} has no result of step {need!r}",
                f"resume it first: `tidemill runs resume {past.id}`",
            )
        given[need], wrong = catalog.gave(done[need])
        if wrong:
            raise NotFound(f"what step {need!r} gave in run {past.id[:13]} {wrong}", "run the whole pipeline again")
    return given


def _begin(session: Session, graph: Graph, begun: Run, start: Start, progress: Progress | None) -> Done:
    """Write down that a run begins, while it can be seen that its process lives, and walk it."""
    with session.workspace.alive.hold(begun.id):
        reached("run is alive")
        session.workspace.ledger.runs.add(begun)
        reached("run is begun")
        return _walk(session, graph, begun, start, progress)


def _walk(session: Session, graph: Graph, begun: Run, start: Start, progress: Progress | None) -> Done:
    recorder = Recorder(session, begun)
    try:
        Execution(session, graph, recorder, engine_of(session, begun.engine), progress, start).walk()
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
        if begun.engine == "inline":
            engine_of(session, "inline").close()
    return recorder.close("done"), None
