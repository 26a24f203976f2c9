"""The lease of an environment: of two daemons, the second waits until the first is gone, however it went.

On one machine it is the lock of a file. A ledger that several machines share has a lock, too, so that two workspaces on
one ledger count as one environment. Both open when the process that locked them dies.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

from tidemill.errors import TidemillError
from tidemill.ledger.database import Database, Lock


class Lease:
    """The lease of the environment whose state is in `folder`, with a ledger in a database."""

    def __init__(self, folder: Path, database: Database, environment: str) -> None:
        self._folder = folder
        self._database = database
        self._environment = environment
        self._file: IO[str] | None = None
        self._lock: Lock | None = None

    def held(self) -> bool:
        """Whether the lease is ours: locked if it is free, and locked again where the server has lost it.

        Raises
        ------
        TidemillError
            if the server does not answer.
        """
        return self._locked_here() and self._locked_there()

    def free(self) -> None:
        """Let another have it."""
        if self._lock is not None:
            self._lock.release()
        if self._file is not None:
            self._file.close()
        self._lock = self._file = None

    def _locked_here(self) -> bool:
        if self._file is not None:
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / "daemon.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return True

    def _locked_there(self) -> bool:
        try:
            if self._lock is None:
                self._lock = self._database.lock(f"daemon/{self._environment}")
            return self._lock is not None and self._lock.is_alive()
        except TidemillError:
            self._lock = None
            raise
