"""The details of a run: its steps, artifacts, verdicts and releases, and the release that it was compared with."""

from typing import Literal

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.core.run import Cause, Run, StepRun
from tidemill.errors import NotFound
from tidemill.evidence.identify import find_run
from tidemill.ledger.releases import find_release


class RunDetails(Struct, frozen=True, kw_only=True):
    """All records of one run in the ledger; `artifacts` have the names `step.output`.

    `compared_with` is the release that its model was compared with, `event` the event that fired its trigger.
    """

    run: Run
    steps: list[StepRun]
    artifacts: dict[str, Artifact]
    verdicts: list[Verdict]
    releases: list[Release]
    compared_with: Release | None = None
    event: Event | None = None


def read_run_details(books: BooksReader, run_id: str) -> RunDetails:
    """Return the details of a run; raise `NotFound`, or `InputError` if several ids start with this text."""
    run = find_run(books, run_id)
    steps = list_steps(books, run.id)
    releases = books.releases.find(run=run.id)
    return RunDetails(
        run=run,
        steps=steps,
        artifacts=_read_artifacts(books, steps),
        verdicts=books.verdicts.find(run=run.id),
        releases=releases,
        compared_with=_find_compared_release(books, run, steps),
        event=_find_event(books, run),
    )


def list_steps(books: BooksReader, run_id: str) -> list[StepRun]:
    """Return the steps of a run in their order, with every attempt of a step."""
    return sorted(books.steps.find(run=run_id), key=lambda step: (step.position, step.attempt, step.id))


def find_last_attempts(steps: list[StepRun]) -> dict[str, StepRun]:
    """Return the last attempt of each step, by name."""
    return {step.step: step for step in steps}


def get_graph_name(step: StepRun) -> str:
    """Return the name of a step in the graph of its run: `fit` for `fit[3]`, a member of a mapped step."""
    return step.step.partition("[")[0]


def find_sources(run: Run, step: StepRun, steps: dict[str, StepRun]) -> list[tuple[StepRun, list[str]]]:
    """Return the steps whose outputs are inputs of a step, each with the names of those outputs.

    The names are empty if the input is a list of outputs, which has its own digest, or a transient value that was never
    computed.
    """
    inputs = set(step.inputs.values())
    needs = run.graph.get(get_graph_name(step))
    if needs is None:  # a run without a graph: only the digests connect its steps
        earlier = [candidate for candidate in steps.values() if candidate.position < step.position]
        return [(source, outputs) for source in earlier if (outputs := _list_outputs(source, inputs))]
    sources: list[tuple[StepRun, list[str]]] = []
    for need in needs:
        members = [
            (member, _list_outputs(member, inputs)) for member in steps.values() if get_graph_name(member) == need
        ]
        sources += [(member, outputs) for member, outputs in members if outputs] or members
    return sources


def find_final_steps(run: Run, steps: dict[str, StepRun]) -> list[StepRun]:
    """Return the steps whose outputs are inputs of no other step of the run."""
    needed = {need for needs in run.graph.values() for need in needs}
    return [step for step in steps.values() if get_graph_name(step) not in needed]


def list_executors(steps: list[StepRun]) -> list[str]:
    """Return the distinct executors of steps, each in its most detailed form."""
    executors = {step.executor for step in steps if step.executor}
    return sorted(name for name in executors if not any(longer.startswith(f"{name},") for longer in executors))


def describe_executor(details: RunDetails) -> str:
    """Return the process of a run, or its engine if there were several processes, and the machine."""
    executors = list_executors(details.steps)
    return " on ".join(filter(None, (executors[0] if len(executors) == 1 else details.run.engine, details.run.host)))


def _list_outputs(step: StepRun, digests: set[str]) -> list[str]:
    return [name for name, digest in step.outputs.items() if digest in digests]


def describe_cause(details: RunDetails) -> str:
    """Return who or what started a run, as text."""
    resumed = details.run.resumed_by
    return _describe_start(details) + (f", resumed by {_describe_actor(resumed)}" if resumed else "")


def _describe_start(details: RunDetails) -> str:
    cause = details.run.started_by
    if details.event is not None:
        reason = details.event.announcement.reason
        on = f"{details.event.kind} of {details.event.subject}" + (f": {reason}" if reason else "")
        return f"trigger {cause.trigger!r}, on {on}"
    if cause.trigger:
        return f"trigger {cause.trigger!r}"
    return _describe_actor(cause)


def _describe_actor(cause: Cause) -> str:
    actor = "" if cause.by == "hand" else cause.by
    return f"{cause.user}, by {actor}" if cause.user and actor else cause.user or actor or "an unknown user"


def _read_artifacts(books: BooksReader, steps: list[StepRun]) -> dict[str, Artifact]:
    artifacts = {}
    by_digest: dict[str, Artifact] = {}
    for step in steps:
        for name, digest in step.outputs.items():
            artifact = by_digest.get(digest) or find_artifact(books, digest)
            if artifact is not None:
                artifacts[f"{step.step}.{name}"] = by_digest[digest] = artifact
    return artifacts


def find_steps_with(books: BooksReader, side: Literal["in", "out"], digest: str, limit: int) -> list[StepRun]:
    """Return the steps with an artifact among their inputs (`in`) or outputs (`out`), oldest first."""
    return books.steps.find(linked=f"{side}:{digest}", limit=limit)


def find_artifact(books: BooksReader, digest: str) -> Artifact | None:
    """Return the artifact with a digest, or None if the ledger has none."""
    artifacts = books.artifacts.find(id=digest, limit=1)
    return artifacts[0] if artifacts else None


def _find_compared_release(books: BooksReader, run: Run, steps: list[StepRun]) -> Release | None:
    """Return the release that the run recorded, or a release of an earlier run whose package a step loaded."""
    try:
        if run.compared_with:
            return find_release(books, run.compared_with)
    except NotFound:
        return None
    loaded = [digest for step in steps if not run.graph.get(step.step) for digest in step.outputs.values()]
    releases = [release for digest in loaded for release in books.releases.find(package=digest, limit=1)]
    return next((release for release in releases if release.run != run.id), None)


def _find_event(books: BooksReader, run: Run) -> Event | None:
    identifier = run.started_by.event
    events = books.events.find(id=identifier, limit=1) if identifier else []
    return events[0] if events else None
