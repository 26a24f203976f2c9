"""The folder of a deployed process: it runs once, reports its addresses, and receives the request to go public."""

import fcntl
import os
from pathlib import Path
from typing import IO, TypeVar

import msgspec
from msgspec import Struct

from tidemill.errors import InputError, TidemillError

T = TypeVar("T", bound=Struct)


class ProcessFacts(Struct, frozen=True, kw_only=True):
    """What a deployed process reports: its process id, its private addresses, and its public address once it has one.

    `problem` is why it could not take the public port.
    """

    process: int
    service: str = ""
    pages: str = ""
    public: str = ""
    problem: str = ""


class Activation(Struct, frozen=True, kw_only=True):
    """The request to serve the public port."""

    port: int


class DeploymentFolder:
    """The files by which a deployed process and the one that deploys it talk: each is replaced as a whole.

    The process locks `lock` for its life, so that it is known to run, also after the other process was killed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: IO[str] | None = None

    @property
    def log(self) -> Path:
        """The file with what the process printed."""
        return self.folder / "log.txt"

    def acquire(self) -> None:
        """Become the process of this deployment.

        Raises
        ------
        InputError
            if there is one already.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InputError(f"the deployment in {self.folder} runs already", "stop it first") from None
        self._lock = file
        self.report(ProcessFacts(process=os.getpid()))

    def is_running(self) -> bool:
        """Return whether a process of this deployment runs."""
        try:
            with (self.folder / "lock").open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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

    def activate(self, port: int) -> None:
        """Request that the process serves a public port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("active.json", Activation(port=port))

    def read_activation(self) -> Activation | None:
        """Return the request to serve a public port; None if there is none."""
        return self._read("active.json", Activation)

    def _write(self, name: str, content: Struct) -> None:
        draft = self.folder / f".{name}.{os.getpid()}"
        draft.write_bytes(msgspec.json.encode(content))
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
