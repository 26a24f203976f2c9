"""Does a past run again from what is recorded of it, and tells what came out the same."""

import math
from typing import Any, Literal

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from tidemill.blobs.artifacts import read
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.pipeline import Graph
from tidemill.core.resources import BooksReader
from tidemill.core.run import Run, StepRun
from tidemill.errors import InputError, NotFound
from tidemill.flow.cache import Catalog
from tidemill.flow.engine import plan_of
from tidemill.flow.engines import engine_of
from tidemill.flow.execute import Execution, Progress, Start
from tidemill.flow.record import Recorder, new_run
from tidemill.flow.session import Session, depends_on_the_world


class Sameness(Struct, frozen=True, kw_only=True):
    """One output of a step, as it was and as it came out again; `apart` is how far its numbers are, if it has any."""

    step: str
    output: str
    kind: str
    verdict: Literal["same", "within tolerance", "differs"]
    recorded: str
    reproduced: str
    apart: float | None = None


class Reproduction(Struct, frozen=True, kw_only=True):
    """What came of doing a run again: the `same`, where every digest is, or else its metrics within the tolerance.

    `taken` are the steps that change the world: they were not done again, what they gave was taken as recorded.
    `code` and `environment` say what could not be rebuilt as it was.
    """

    run: str
    pipeline: str
    same: bool
    steps: list[Sameness]
    taken: list[str]
    metrics: dict[str, tuple[float, float | None]]
    code: dict[str, Any] = {}
    environment: dict[str, tuple[str, str]] = {}
    error: str = ""


def reproduce(
    session: Session, books: BooksReader, past: Run, tolerance: float, progress: Progress | None = None
) -> Reproduction:
    """Do a run again in `session`, which has its code and an empty ledger, and compare it with what `books` recorded.

    Raises
    ------
    InputError
        where the run never came so far that there is something to compare.
    """
    recorded = Catalog(books, session.workspace.blobs).done(past)
    if not recorded:
        raise InputError(f"run {past.id[:13]} finished no step", "choose a run that did")
    graph = plan_of(session, past)
    given = _given(graph, recorded, books)
    again = new_run(session, graph, {"by": "reproduce", "run": past.id}, "inline")
    session.workspace.ledger.runs.add(again)
    recorder = Recorder(session, again)
    error = ""
    try:
        Execution(session, graph, recorder, engine_of(session, "inline"), progress, Start({}, given)).walk()
        done = recorder.close("done")
    except Exception as raised:  # noqa: BLE001 - that it fails now is what there is to tell
        error = getattr(raised, "problem", "") or f"{type(raised).__name__}: {raised}"
        done = recorder.close("failed", error)
    fresh = {step.step: step for step in session.workspace.ledger.steps.find(run=done.id)}
    steps = [
        one
        for step in sorted(recorded.values(), key=lambda step: step.position)
        if step.step in fresh
        for one in _compared(step, fresh[step.step], books, session, tolerance)
    ]
    measured = {name: (value, done.metrics.get(name)) for name, value in past.metrics.items()}
    near = [now is not None and abs(now - value) <= tolerance for value, now in measured.values()]
    alike = all(one.verdict != "differs" for one in steps) or (bool(near) and all(near))
    return Reproduction(
        run=past.id,
        pipeline=past.pipeline,
        same=alike and not error,
        steps=steps,
        taken=sorted(given),
        metrics=measured,
        error=error,
    )


def _given(graph: Graph, recorded: dict[str, StepRun], books: BooksReader) -> dict[str, dict[str, Artifact]]:
    """Take out of a graph the steps that change the world; what they gave, as recorded.

    With those that the run never came to goes all that would need them.
    """
    given: dict[str, dict[str, Artifact]] = {}
    gone: set[str] = set()
    for node in list(graph.nodes.values()):
        step = recorded.get(node.name)
        changes = depends_on_the_world(node.step)
        if changes and step is not None:
            given[node.name] = {output: books.artifacts.get(digest) for output, digest in step.outputs.items()}
        elif changes or gone.intersection(node.needs):
            gone.add(node.name)
    for name in gone | given.keys():
        del graph.nodes[name]
    return given


def _compared(was: StepRun, now: StepRun, books: BooksReader, session: Session, tolerance: float) -> list[Sameness]:
    found = []
    for output, digest in was.outputs.items():
        artifact = books.artifacts.get(digest)
        if artifact.transient:
            continue
        again = now.outputs.get(output, "")
        one = Sameness(
            step=was.step, output=output, kind=artifact.kind, verdict="same", recorded=digest, reproduced=again
        )
        if again != digest:
            apart = _apart(session.workspace.blobs, artifact, again, session.workspace.ledger) if again else None
            near = apart is not None and apart <= tolerance
            one = replace(one, verdict="within tolerance" if near else "differs", apart=apart)
        found.append(one)
    return found


def _apart(blobs: Blobs, was: Artifact, digest: str, books: BooksReader) -> float | None:
    """The largest difference between the numbers of two artifacts; None where there are none to compare."""
    now = books.artifacts.get(digest)
    if was.kind != now.kind:
        return None
    try:
        if was.kind == "model":
            first, second = (_metrics_of(blobs, one) for one in (was, now))
        elif was.kind == "json":
            first, second = (read(blobs, one, Any) for one in (was, now))
        else:
            return None
        return _distance(first, second)
    except (NotFound, ValueError):
        return None


def _metrics_of(blobs: Blobs, model: Artifact) -> Any:
    from tidemill.core.model import Model

    metrics = read(blobs, model, Model).manifest.metrics
    if not metrics:
        raise ValueError("a package without metrics")
    return to_builtins(metrics)


def _distance(first: Any, second: Any) -> float:
    """Raises `ValueError` where they differ in more than numbers."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return max((_distance(first[name], second[name]) for name in first), default=0.0)
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return max(map(_distance, first, second), default=0.0)
    if isinstance(first, float | int) and isinstance(second, float | int) and not isinstance(first, bool):
        return abs(float(first) - float(second)) if math.isfinite(first) and math.isfinite(second) else 0.0
    if first == second:
        return 0.0
    raise ValueError("they differ in more than numbers")
