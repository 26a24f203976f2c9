"""The lease of an environment: of two daemons, the second waits until the first has stopped or died.

On one machine, the lease is a file lock. A ledger that several machines share has a lock too, so that two workspaces on
one ledger are one environment. Both locks are released when the process that locked them dies.
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

    def acquire(self) -> bool:
        """Lock the lease if it is free, or again if the server has lost the lock; return whether this process has it.

        Raises
        ------
        TidemillError
            if the database server does not respond.
        """
        return self._lock_file() and self._lock_database()

    def release(self) -> None:
        """Release the lease."""
        if self._lock is not None:
            self._lock.release()
        if self._file is not None:
            self._file.close()
        self._lock = self._file = None

    def _lock_file(self) -> bool:
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

    def _lock_database(self) -> bool:
        try:
            if self._lock is None:
                self._lock = self._database.lock(f"daemon/{self._environment}")
            return self._lock is not None and self._lock.is_alive()
        except TidemillError:
            self._lock = None
            raise
