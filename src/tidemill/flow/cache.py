"""The step cache: finds results of earlier runs that can be used again, and explains why others cannot."""

from pathlib import Path
from typing import Any, NamedTuple

from tidemill.blobs.artifacts import is_intact
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.pipeline import Step
from tidemill.core.resources import BooksReader
from tidemill.core.run import CacheDecision, Run, StepRun
from tidemill.errors import NotFound, TidemillError
from tidemill.flow.code.changes import find_changed_modules
from tidemill.flow.shared import SharedResults

_CANDIDATES = 5
_FINISHED = ("ran", "cached")
REASONS: dict[CacheDecision, str] = {
    "new": "first time with this code and these inputs",
    "lost": "an earlier result",
    "off": "its cache is off",
    "changes": "it has side effects: never cached",
    "reads": "it reads external state: never cached",
    "requested": "requested by a person",
    "hit": "same code and inputs",
    "resumed": "finished in an earlier attempt of this run",
    "needed": "transient, and its value is needed",
    "unneeded": "transient, and no step needed its value",
}


class CacheResult(NamedTuple):
    """The result of a lookup: an earlier step with its artifacts or None, the decision, and the decision as text."""

    step: StepRun | None
    artifacts: dict[str, Artifact]
    decision: CacheDecision
    reason: str


class StepCache:
    """Finds the outputs for a cache key whose bytes still exist and are unchanged."""

    def __init__(self, books: BooksReader, blobs: Blobs, shared: SharedResults | None = None) -> None:
        self._books = books
        self._blobs = blobs
        self._shared = shared

    def find(self, key: str, outputs: tuple[str, ...]) -> CacheResult:
        """Return the newest step with this key whose artifacts are unchanged, or the reason why there is none."""
        miss = CacheResult(None, {}, "new", REASONS["new"])
        for earlier in self._books.steps.find(key=key, newest=True, limit=_CANDIDATES):
            if earlier.state in _FINISHED and set(earlier.outputs) == set(outputs):
                artifacts, problem = self.load_outputs(earlier)
                if not problem:
                    return CacheResult(earlier, artifacts, "hit", f"{REASONS['hit']} as in run {earlier.run[:13]}")
                miss = CacheResult(None, {}, "lost", f"{REASONS['lost']} {problem}")
        return miss

    def find_change(self, record: StepRun, pipeline: str, step: Step[Any], folder: Path) -> str:
        """Return which modules of a step changed since its last run, as text; empty if its code is unchanged."""
        steps = self._books.steps.find(step=record.step, newest=True, limit=1)
        earlier = next((step for step in steps if step.state in _FINISHED and step.code != record.code), None)
        if earlier is None:
            return ""
        try:
            run = self._books.runs.get(earlier.run)
            if run.pipeline != pipeline:
                return ""
            modules = find_changed_modules(step.function, folder, self._blobs.get(run.code["snapshot"]))
        except (KeyError, TidemillError):  # the earlier code is not stored any more
            return ""
        changed = f"code changed in {', '.join(modules)}" if modules else "its code or a package changed"
        return f"{changed} since run {earlier.run[:13]}"

    def find_shared(self, key: str) -> CacheResult | None:
        """Return the result of another workspace for this key, if the workspaces share results; may wait for it."""
        result = self._shared.get_or_claim(key) if self._shared else None
        if result is None or not all(is_intact(self._blobs, artifact) for artifact in result.artifacts.values()):
            return None
        return CacheResult(result.step, result.artifacts, "hit", f"{REASONS['hit']} as in run {result.step.run[:13]}")

    def publish(self, step: StepRun, artifacts: tuple[Artifact, ...]) -> None:
        """Publish the outputs of a finished step to the workspaces that wait for them."""
        if self._shared:
            by_id = {artifact.id: artifact for artifact in artifacts}
            self._shared.publish(step, {output: by_id[digest] for output, digest in step.outputs.items()})

    def release_claims(self) -> None:
        """Release the keys that this run claimed and did not compute: other workspaces stop waiting for them."""
        if self._shared:
            self._shared.release_claims()

    def load_outputs(self, step: StepRun) -> tuple[dict[str, Artifact], str]:
        """Return the artifacts of a step by output, and a problem as text if one of them cannot be used."""
        artifacts = {}
        for output, digest in step.outputs.items():
            try:
                artifact = self._books.artifacts.get(digest)
            except NotFound:
                return {}, f"is not in the ledger: {digest[:12]}"
            if artifact.collected is not None:
                return {}, f"was deleted by gc on {artifact.collected:%Y-%m-%d}: {digest[:12]}"
            if not artifact.transient and not is_intact(self._blobs, artifact):
                return {}, f"is missing or was changed: blob {digest[:12]}"
            artifacts[output] = artifact
        return artifacts, ""

    def completed_steps(self, run: Run) -> dict[str, StepRun]:
        """Return the steps that earlier attempts of a run finished, by name, without the step that stopped it."""
        steps = self._books.steps.find(run=run.id)
        return {step.step: step for step in steps if step.state in _FINISHED and not step.stops}
