"""The story of a run: itself, its steps, its artifacts, its verdicts, its releases, and what it was compared with."""

from typing import Literal

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.core.run import Cause, Run, StepRun
from tidemill.errors import NotFound
from tidemill.evidence.identify import run_of
from tidemill.ledger.releases import find_release


class Story(Struct, frozen=True, kw_only=True):
    """Everything that one run left in the ledger; `artifacts` are named `step.output`.

    `compared_with` is the release that its model was compared with, `event` what its trigger fired on.
    """

    run: Run
    steps: list[StepRun]
    artifacts: dict[str, Artifact]
    verdicts: list[Verdict]
    releases: list[Release]
    compared_with: Release | None = None
    event: Event | None = None


def story_of(books: BooksReader, run_id: str) -> Story:
    """The story of a run; raises `NotFound`, and `InputError` where several ids begin so."""
    run = run_of(books, run_id)
    steps = steps_of(books, run.id)
    releases = books.releases.find(run=run.id)
    return Story(
        run=run,
        steps=steps,
        artifacts=_artifacts(books, steps),
        verdicts=books.verdicts.find(run=run.id),
        releases=releases,
        compared_with=_compared_with(books, run, steps),
        event=_event(books, run),
    )


def steps_of(books: BooksReader, run_id: str) -> list[StepRun]:
    """The steps of a run in their order, each try of one after the other."""
    return sorted(books.steps.find(run=run_id), key=lambda step: (step.position, step.attempt, step.id))


def last_tries(steps: list[StepRun]) -> dict[str, StepRun]:
    """The last try of each step, by name."""
    return {step.step: step for step in steps}


def node_of(step: StepRun) -> str:
    """The name of a step in its run's graph: that of a member of a mapped step (`fit[3]`) is the whole's."""
    return step.step.partition("[")[0]


def feeds(run: Run, step: StepRun, steps: dict[str, StepRun]) -> list[tuple[StepRun, list[str]]]:
    """The steps whose values a step took, each with those of its outputs that it took.

    No output is named where a list of values was taken, which has a digest of its own, or a transient value that was
    never made.
    """
    taken = set(step.inputs.values())
    needs = run.graph.get(node_of(step))
    if needs is None:  # it kept no graph: digests tell
        earlier = [one for one in steps.values() if one.position < step.position]
        return [(one, gave) for one in earlier if (gave := _given(one, taken))]
    found: list[tuple[StepRun, list[str]]] = []
    for need in needs:
        members = [(one, _given(one, taken)) for one in steps.values() if node_of(one) == need]
        found += [(one, gave) for one, gave in members if gave] or members
    return found


def sinks(run: Run, steps: dict[str, StepRun]) -> list[StepRun]:
    """The steps whose values no other step of the run needs."""
    needed = {need for needs in run.graph.values() for need in needs}
    return [step for step in steps.values() if node_of(step) not in needed]


def executors(steps: list[StepRun]) -> list[str]:
    """Where steps ran, each place once and as exactly as it is known."""
    places = {step.executor for step in steps if step.executor}
    return sorted(place for place in places if not any(one.startswith(f"{place},") for one in places))


def executor_of(story: Story) -> str:
    """Where a run ran: its engine, the process where it was one, and the machine."""
    places = executors(story.steps)
    return " on ".join(filter(None, (places[0] if len(places) == 1 else story.run.engine, story.run.host)))


def _given(step: StepRun, taken: set[str]) -> list[str]:
    return [name for name, digest in step.outputs.items() if digest in taken]


def cause_of(story: Story) -> str:
    """Who or what started a run, in words."""
    resumed = story.run.resumed_by
    return _first_cause(story) + (f", resumed by {_who(resumed)}" if resumed else "")


def _first_cause(story: Story) -> str:
    cause = story.run.started_by
    if story.event is not None:
        reason = story.event.about.reason
        on = f"{story.event.kind} of {story.event.subject}" + (f": {reason}" if reason else "")
        return f"trigger {cause.trigger!r}, on {on}"
    if cause.trigger:
        return f"trigger {cause.trigger!r}"
    return _who(cause)


def _who(cause: Cause) -> str:
    return f"{cause.user}, by {cause.by}" if cause.user and cause.by else cause.user or cause.by or "an unknown user"


def _artifacts(books: BooksReader, steps: list[StepRun]) -> dict[str, Artifact]:
    found = {}
    known: dict[str, Artifact] = {}
    for step in steps:
        for name, digest in step.outputs.items():
            artifact = known.get(digest) or artifact_of(books, digest)
            if artifact is not None:
                found[f"{step.step}.{name}"] = known[digest] = artifact
    return found


def steps_with(books: BooksReader, side: Literal["in", "out"], digest: str, limit: int) -> list[StepRun]:
    """The steps that took (`in`) or gave (`out`) an artifact, oldest first."""
    return books.steps.find(linked=f"{side}:{digest}", limit=limit)


def artifact_of(books: BooksReader, digest: str) -> Artifact | None:
    """What the ledger knows of a digest."""
    found = books.artifacts.find(id=digest, limit=1)
    return found[0] if found else None


def _compared_with(books: BooksReader, run: Run, steps: list[StepRun]) -> Release | None:
    """The release that the run says, or one of an earlier run whose package a step of this one brought in."""
    try:
        if run.compared_with:
            return find_release(books, run.compared_with)
    except NotFound:
        return None
    brought_in = [digest for step in steps if not run.graph.get(step.step) for digest in step.outputs.values()]
    found = [release for digest in brought_in for release in books.releases.find(package=digest, limit=1)]
    return next((release for release in found if release.run != run.id), None)


def _event(books: BooksReader, run: Run) -> Event | None:
    identifier = run.started_by.event
    found = books.events.find(id=identifier, limit=1) if identifier else []
    return found[0] if found else None
