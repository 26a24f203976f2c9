"""The step cache: which results of earlier runs can be used again, and why others can not."""

from typing import NamedTuple

from tidemill.blobs.artifacts import holds
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.resources import BooksReader
from tidemill.core.run import CacheDecision, Run, StepRun
from tidemill.errors import NotFound
from tidemill.flow.memory import Memory

_LOOKED_AT = 5
_GAVE = ("ran", "cached")
REASONS: dict[CacheDecision, str] = {
    "new": "first time with this code and these inputs",
    "lost": "an earlier result",
    "off": "its cache is off",
    "changes": "it changes the world: never cached",
    "reads": "it reads the world: never cached",
    "requested": "requested by a person",
    "hit": "same code and inputs",
    "resumed": "done before in this run",
    "needed": "transient, and its value is needed",
    "unneeded": "transient, and no step needed its value",
}


class CacheResult(NamedTuple):
    """An earlier step with its artifacts, or None; and the decision that follows, with its text."""

    step: StepRun | None
    artifacts: dict[str, Artifact]
    decision: CacheDecision
    reason: str


class Catalog:
    """Finds what was given for a cache key, as far as its bytes are there and have not changed."""

    def __init__(self, books: BooksReader, blobs: Blobs, memory: Memory | None = None) -> None:
        self._books = books
        self._blobs = blobs
        self._memory = memory

    def find(self, key: str, outputs: tuple[str, ...]) -> CacheResult:
        """The newest step of that key whose artifacts are unchanged; or none, and why."""
        none = CacheResult(None, {}, "new", REASONS["new"])
        for earlier in self._books.steps.find(key=key, newest=True, limit=_LOOKED_AT):
            if earlier.state in _GAVE and set(earlier.outputs) == set(outputs):
                artifacts, wrong = self.gave(earlier)
                if not wrong:
                    return CacheResult(earlier, artifacts, "hit", f"{REASONS['hit']} as in run {earlier.run[:13]}")
                none = CacheResult(None, {}, "lost", f"{REASONS['lost']} {wrong}")
        return none

    def recall(self, key: str) -> CacheResult | None:
        """The result of another workspace for that key, where they share a memory; it may be waited for."""
        found = self._memory.recall(key) if self._memory else None
        held = found is not None and all(holds(self._blobs, one) for one in found.artifacts.values())
        if not found or not held:
            return None
        return CacheResult(found.step, found.artifacts, "hit", f"{REASONS['hit']} as in run {found.step.run[:13]}")

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
        """The steps that earlier tries of a run finished, by name; a step that stopped the run is to run again."""
        steps = self._books.steps.find(run=run.id)
        return {step.step: step for step in steps if step.state in _GAVE and not step.stops}
