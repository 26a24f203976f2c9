"""Step results that several workspaces share: one computes a result, the others wait for it and use it."""

import fcntl
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.run import StepRun
from tidemill.errors import TidemillError


class SharedResult(Struct, frozen=True):
    """A step that ran, and its artifacts by output; all workspaces can read the blobs with their bytes."""

    step: StepRun
    artifacts: dict[str, Artifact]


class SharedResults:
    """Results of steps by cache key, in a folder; the first workspace that needs a result computes it.

    Use it only for workspaces in which equal keys have equal results, such as replays of one history.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._claimed: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def get_or_claim(self, key: str) -> SharedResult | None:
        """Return the result, after waiting for the process that computes it; or claim the key and return None.

        After None the caller computes the result and calls `publish`. A process with a claim never waits: the other
        process could wait for that claim. It gets None without a claim.
        """
        if result := self._read(key):
            return result
        handle = os.open(self._folder / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if self._claimed else 0))
        except BlockingIOError:
            os.close(handle)
            return None
        result = self._read(key)
        if result:
            os.close(handle)
        else:
            self._claimed[key] = handle
        return result

    def publish(self, step: StepRun, artifacts: dict[str, Artifact]) -> None:
        """Publish the result of a claimed step and release the claim; a step that did not run is only released."""
        handle = self._claimed.pop(step.key, None)
        if handle is None:
            return
        try:
            if step.state == "ran":
                self._write(step.key, SharedResult(step, artifacts))
        finally:
            _release(handle)

    def release_claims(self) -> None:
        """Release every claim without a result: a run that failed starts no more steps."""
        while self._claimed:
            _release(self._claimed.popitem()[1])

    def _write(self, key: str, result: SharedResult) -> None:
        draft = self._folder / f"{key}.draft"
        try:
            draft.write_bytes(msgspec.json.encode(result))
            draft.replace(self._folder / f"{key}.json")
        except OSError as refused:
            raise TidemillError(f"{draft} cannot be written: {refused.strerror}", "check the free disk space") from None

    def _read(self, key: str) -> SharedResult | None:
        try:
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=SharedResult)
        except FileNotFoundError:
            return None


def _release(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_UN)  # a child process forked by a step may have it open, too
    os.close(handle)
