"""Memory that several workspaces share: what one made, the others take; who needs it meanwhile, waits."""

import fcntl
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.run import StepRun
from tidemill.errors import TidemillError


class Remembered(Struct, frozen=True):
    """A step that was run once, and what it gave by output; the bytes are in blobs that all can read."""

    step: StepRun
    artifacts: dict[str, Artifact]


class Memory:
    """What steps gave, by their cache keys, in a folder; each is made by whoever asks first.

    Only for workspaces in which the same key means the same, such as replays of one history.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def recall(self, key: str) -> Remembered | None:
        """What was made, as soon as it is; None where it is for the caller to make, who says with `over` what came.

        Whoever makes something does not wait for others: they might wait for it.
        """
        if found := self._read(key):
            return found
        handle = os.open(self._folder / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if self._making else 0))
        except BlockingIOError:
            os.close(handle)
            return None
        found = self._read(key)
        if found:
            os.close(handle)
        else:
            self._making[key] = handle
        return found

    def over(self, step: StepRun, artifacts: dict[str, Artifact]) -> None:
        """Let the others have what a step gave that was made here, or make it themselves where it did not run."""
        handle = self._making.pop(step.key, None)
        if handle is None:
            return
        try:
            if step.state == "ran":
                self._write(step.key, Remembered(step, artifacts))
        finally:
            _let_go(handle)

    def leave(self) -> None:
        """Leave to the others what was to be made here and was not: a run that fails starts no more steps."""
        while self._making:
            _let_go(self._making.popitem()[1])

    def _write(self, key: str, made: Remembered) -> None:
        draft = self._folder / f"{key}.draft"
        try:
            draft.write_bytes(msgspec.json.encode(made))
            draft.replace(self._folder / f"{key}.json")
        except OSError as refused:
            raise TidemillError(f"{draft} cannot be written: {refused.strerror}", "check free space") from None

    def _read(self, key: str) -> Remembered | None:
        try:
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=Remembered)
        except FileNotFoundError:
            return None


def _let_go(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_UN)  # a child that a step forked may have it, too
    os.close(handle)
