"""The folder of a deployed process: it runs once, reports its addresses, and receives the request to go public."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from tidemill.delivery.http_client import add_secret
from tidemill.delivery.target import Observation, ProcessState
from tidemill.errors import TidemillError

T = TypeVar("T", bound=Struct)
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.02


class ProcessFacts(Struct, frozen=True, kw_only=True):
    """What a deployed process reports: its process id, its private addresses, and its public address once it has one.

    `problem` is why it could not take the public port. `secret` is a token for the tests of the service, until it is
    public.
    """

    process: int
    service: str = ""
    pages: str = ""
    public: str = ""
    problem: str = ""
    secret: str = ""


class Activation(Struct, frozen=True, kw_only=True):
    """The request to serve the public port."""

    port: int


class Launch(Struct, frozen=True, kw_only=True):
    """The kind of target that a deployment was started on, and the settings that its processes got, as text."""

    target: str
    settings: dict[str, str] = {}


class DeploymentFolder:
    """The files by which a deployed process and the one that deploys it talk: each is replaced as a whole.

    The process inherits the open file `lock`, which is locked as long as it runs: so each deployment has at most one
    process, and others see whether it runs, also after the process that started it was killed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def log(self) -> Path:
        """The file with what the process printed."""
        return self.folder / "log.txt"

    @contextmanager
    def lock(self, seconds: float = 0.0) -> Iterator[int | None]:
        """Lock the deployment, for the process that is started meanwhile and inherits the file descriptor.

        The descriptor is None if another process still has the lock after some seconds: that of the deployment.
        """
        attempts = max(_ATTEMPTS, round(seconds / _PAUSE_SECONDS))
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as file:
            for attempt in range(attempts):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    # Another process may only be asking whether it runs.
                    if attempt + 1 < attempts:
                        time.sleep(_PAUSE_SECONDS)
                    continue
                yield file.fileno()
                return
            yield None

    def is_running(self) -> bool:
        """Return whether the process of this deployment runs."""
        try:
            with (self.folder / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def report(self, facts: ProcessFacts) -> None:
        """Write what the process reports."""
        self._write("process.json", facts)

    def read_report(self) -> ProcessFacts | None:
        """Return what the process reported last; None if there is none."""
        return self._read("process.json", ProcessFacts)

    def observe_process(self) -> Observation:
        """Return what the process reports as what runs of its workload; it is known to run."""
        facts = self.read_report()
        if facts is None or not facts.service:
            return Observation(state="starting")
        state: ProcessState = "public" if facts.public else "ready"
        address = add_secret(facts.service, facts.secret)
        return Observation(state=state, address=address, public=facts.public, problem=facts.problem)

    def activate(self, port: int) -> None:
        """Request that the process serves a public port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("active.json", Activation(port=port))

    def read_activation(self) -> Activation | None:
        """Return the request to serve a public port; None if there is none."""
        return self._read("active.json", Activation)

    def record_launch(self, launch: Launch) -> None:
        """Write with which target and settings the deployment is started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("launch.json", launch)

    def read_launch(self) -> Launch | None:
        """Return with which target and settings the deployment was started; None if it was stopped."""
        return self._read("launch.json", Launch)

    def forget_launch(self, before: datetime | None = None) -> None:
        """Forget the target, because nothing of the deployment runs there; `before` spares one that starts just now."""
        file = self.folder / "launch.json"
        with suppress(FileNotFoundError):
            if before is None or file.stat().st_mtime < before.timestamp():
                file.unlink()

    def _write(self, name: str, content: Struct) -> None:
        draft = self.folder / f".{name}.{os.getpid()}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
            sink.write(msgspec.json.encode(content))
        draft.replace(self.folder / name)

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.folder / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            raise TidemillError(
                f"{self.folder / name} cannot be read: {error}", "delete it; it is written anew"
            ) from None
