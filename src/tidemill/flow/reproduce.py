"""Runs a past run again from its records and compares the outputs."""

import math
from typing import Any, Literal

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from tidemill.blobs.artifacts import read_artifact
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.pipeline import Graph
from tidemill.core.resources import BooksReader
from tidemill.core.run import Run, StepRun
from tidemill.errors import InputError, NotFound
from tidemill.flow.cache import StepCache
from tidemill.flow.engine import plan_again
from tidemill.flow.engines import open_engine
from tidemill.flow.execute import Execution, Progress, StartState
from tidemill.flow.record import Recorder, new_run
from tidemill.flow.session import Session, find_side_effects


class ReproducedOutput(Struct, frozen=True, kw_only=True):
    """One output of a step, recorded and reproduced; `apart` is the largest difference between its numbers, if any."""

    step: str
    output: str
    kind: str
    verdict: Literal["same", "within tolerance", "differs"]
    recorded: str
    reproduced: str
    apart: float | None = None


class Reproduction(Struct, frozen=True, kw_only=True):
    """The result of a reproduction: `same` if every digest is equal, or if the metrics are within the tolerance.

    `taken` are the steps with side effects: they did not run again, and their recorded outputs were used.
    `code` and `environment` list what could not be restored.
    """

    run: str
    pipeline: str
    same: bool
    steps: list[ReproducedOutput]
    taken: list[str]
    metrics: dict[str, tuple[float, float | None]]
    code: dict[str, Any] = {}
    environment: dict[str, tuple[str, str]] = {}
    error: str = ""


def reproduce(
    session: Session, books: BooksReader, past: Run, tolerance: float, progress: Progress | None = None
) -> Reproduction:
    """Run a past run again in `session`, which has its code and an empty ledger, and compare it with the records.

    Raises
    ------
    InputError
        If the run finished no step, so that there is nothing to compare.
    """
    recorded = StepCache(books, session.workspace.blobs).completed_steps(past)
    if not recorded:
        raise InputError(f"run {past.id[:13]} finished no step", "choose a run that finished a step")
    graph = plan_again(session, past)
    outputs = _remove_side_effects(graph, recorded, books)
    record = new_run(session, graph, {"by": "reproduce", "run": past.id}, "inline")
    session.workspace.ledger.runs.add(record)
    recorder = Recorder(session, record)
    error = ""
    try:
        Execution(session, graph, recorder, open_engine(session, "inline"), progress, StartState({}, outputs)).run()
        finished = recorder.close("done")
    except Exception as raised:  # noqa: BLE001 - the failure is the result of the reproduction
        error = getattr(raised, "problem", "") or f"{type(raised).__name__}: {raised}"
        finished = recorder.close("failed", error)
    reproduced = {step.step: step for step in session.workspace.ledger.steps.find(run=finished.id)}
    steps = [
        output
        for step in sorted(recorded.values(), key=lambda step: step.position)
        if step.step in reproduced
        for output in _compare(step, reproduced[step.step], books, session, tolerance)
    ]
    metrics = {name: (value, finished.metrics.get(name)) for name, value in past.metrics.items()}
    close = [now is not None and abs(now - value) <= tolerance for value, now in metrics.values()]
    same = all(output.verdict != "differs" for output in steps) or (bool(close) and all(close))
    return Reproduction(
        run=past.id,
        pipeline=past.pipeline,
        same=same and not error,
        steps=steps,
        taken=sorted(outputs),
        metrics=metrics,
        error=error,
    )


def _remove_side_effects(
    graph: Graph, recorded: dict[str, StepRun], books: BooksReader
) -> dict[str, dict[str, Artifact]]:
    """Remove the steps with side effects from a graph; return their recorded outputs.

    A step with side effects that the run did not reach is removed together with the steps that depend on it.
    """
    outputs: dict[str, dict[str, Artifact]] = {}
    removed: set[str] = set()
    for node in list(graph.nodes.values()):
        step = recorded.get(node.name)
        changes = find_side_effects(node.step)
        if changes and step is not None:
            outputs[node.name] = {output: books.artifacts.get(digest) for output, digest in step.outputs.items()}
        elif changes or removed.intersection(node.needs):
            removed.add(node.name)
    for name in removed | outputs.keys():
        del graph.nodes[name]
    return outputs


def _compare(
    was: StepRun, now: StepRun, books: BooksReader, session: Session, tolerance: float
) -> list[ReproducedOutput]:
    compared = []
    for output, digest in was.outputs.items():
        artifact = books.artifacts.get(digest)
        if artifact.transient:
            continue
        reproduced = now.outputs.get(output, "")
        result = ReproducedOutput(
            step=was.step, output=output, kind=artifact.kind, verdict="same", recorded=digest, reproduced=reproduced
        )
        if reproduced != digest:
            blobs, ledger = session.workspace.blobs, session.workspace.ledger
            apart = _measure_difference(blobs, artifact, reproduced, ledger) if reproduced else None
            close = apart is not None and apart <= tolerance
            result = replace(result, verdict="within tolerance" if close else "differs", apart=apart)
        compared.append(result)
    return compared


def _measure_difference(blobs: Blobs, was: Artifact, digest: str, books: BooksReader) -> float | None:
    """Return the largest difference between the numbers of two artifacts; None if they have no comparable numbers."""
    now = books.artifacts.get(digest)
    if was.kind != now.kind:
        return None
    try:
        if was.kind == "model":
            first, second = (_read_metrics(blobs, artifact) for artifact in (was, now))
        elif was.kind == "json":
            first, second = (read_artifact(blobs, artifact, Any) for artifact in (was, now))
        else:
            return None
        return _distance(first, second)
    except (NotFound, ValueError):
        return None


def _read_metrics(blobs: Blobs, model: Artifact) -> Any:
    from tidemill.core.model import Model

    metrics = read_artifact(blobs, model, Model).manifest.metrics
    if not metrics:
        raise ValueError("the package has no metrics")
    return to_builtins(metrics)


def _distance(first: Any, second: Any) -> float:
    """Return the largest difference between numbers; raise `ValueError` if the values differ in other ways."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return max((_distance(first[name], second[name]) for name in first), default=0.0)
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return max(map(_distance, first, second), default=0.0)
    if isinstance(first, float | int) and isinstance(second, float | int) and not isinstance(first, bool):
        return abs(float(first) - float(second)) if math.isfinite(first) and math.isfinite(second) else 0.0
    if first == second:
        return 0.0
    raise ValueError("they differ in more than numbers")
