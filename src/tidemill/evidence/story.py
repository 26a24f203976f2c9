"""The story of a run: itself, its steps, its artifacts, its verdicts and its releases."""

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.release import Release
from tidemill.core.resources import Books
from tidemill.core.run import Run, StepRun
from tidemill.errors import NotFound


class Story(Struct, frozen=True, kw_only=True):
    """Everything that one run left in the ledger."""

    run: Run
    steps: list[StepRun]
    artifacts: dict[str, Artifact]
    verdicts: list[Verdict]
    releases: list[Release]


def story_of(books: Books, run_id: str) -> Story:
    """The story of a run; raises `NotFound`."""
    run = books.runs.get(run_id)
    steps = sorted(books.steps.find(run=run.id), key=lambda step: step.position)
    return Story(
        run=run,
        steps=steps,
        artifacts=_artifacts(books, steps),
        verdicts=books.verdicts.find(run=run.id),
        releases=books.releases.find(run=run.id),
    )


def _artifacts(books: Books, steps: list[StepRun]) -> dict[str, Artifact]:
    found = {}
    for step in steps:
        for name, digest in step.outputs.items():
            try:
                found[f"{step.step}.{name}"] = books.artifacts.get(digest)
            except NotFound:
                continue
    return found
