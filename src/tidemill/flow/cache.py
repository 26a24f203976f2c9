"""The catalog: which results of earlier runs may be taken again, and why others may not."""

from msgspec.structs import replace

from tidemill.blobs.artifacts import holds
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.resources import BooksReader
from tidemill.core.run import Run, StepRun
from tidemill.errors import NotFound
from tidemill.flow.memory import Memory

_LOOKED_AT = 5
_GAVE = ("ran", "cached")


class Catalog:
    """Finds what was given for a cache key, as far as its bytes are there and have not changed."""

    def __init__(self, books: BooksReader, blobs: Blobs, memory: Memory | None = None) -> None:
        self._books = books
        self._blobs = blobs
        self._memory = memory

    def find(self, key: str, outputs: tuple[str, ...]) -> tuple[StepRun | None, dict[str, Artifact], str]:
        """The newest step of that key whose artifacts hold, and these; or nothing, and the reason."""
        why_not = "first time with this code and these inputs"
        for earlier in self._books.steps.find(key=key, newest=True, limit=_LOOKED_AT):
            if earlier.state in _GAVE and set(earlier.outputs) == set(outputs):
                artifacts, wrong = self.gave(earlier)
                if not wrong:
                    return earlier, artifacts, ""
                why_not = f"an earlier result {wrong}"
        return None, {}, why_not

    def recall(self, key: str) -> tuple[StepRun | None, dict[str, Artifact]]:
        """What another workspace gave for that key, where there is a memory to share; it may be waited for."""
        found = self._memory.recall(key) if self._memory else None
        held = found is not None and all(holds(self._blobs, one) for one in found.artifacts.values())
        return (found.step, found.artifacts) if found and held else (None, {})

    def over(self, step: StepRun, artifacts: tuple[Artifact, ...]) -> None:
        """A step is over: other workspaces may wait for what it gave."""
        if self._memory:
            by_id = {artifact.id: artifact for artifact in artifacts}
            self._memory.over(step, {output: by_id[one] for output, one in step.outputs.items()})

    def leave(self) -> None:
        """A run is over: other workspaces need not wait for what it did not come to."""
        if self._memory:
            self._memory.leave()

    def gave(self, step: StepRun) -> tuple[dict[str, Artifact], str]:
        """The artifacts that a step gave by output, and what is wrong with them, if anything is."""
        found = {}
        for output, digest in step.outputs.items():
            try:
                artifact = self._books.artifacts.get(digest)
            except NotFound:
                return {}, f"is not in the ledger: {digest[:12]}"
            if artifact.collected is not None:
                return {}, f"was let go on {artifact.collected:%Y-%m-%d}: {digest[:12]}"
            if not artifact.transient and not holds(self._blobs, artifact):
                return {}, f"is gone or was altered: blob {digest[:12]}"
            found[output] = artifact
        return found, ""

    def done(self, run: Run) -> dict[str, StepRun]:
        """What the earlier tries of a run finished, by step; not what said stop, which is to be asked again."""
        return {
            step.step: step
            for step in self._books.steps.find(run=run.id)
            if step.state in _GAVE and not step.reason.startswith(STOPPED)
        }


STOPPED = "it said stop"


def stopping(step: StepRun) -> StepRun:
    """The record of a step whose verdict ends the run."""
    return replace(step, reason=f"{STOPPED}; {step.reason}")
