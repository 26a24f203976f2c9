"""The lease of an environment: of two daemons, the second waits until the first is gone, however it went.

On one machine it is the lock of a file; where the ledger is on a server, also a lock there, so that two workspaces on
one ledger count as one environment. Both open by themselves when their holder dies.
"""

import fcntl
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tidemill.ledger.connections import database_at

_LEASES = 0x71E0
# A machine that vanished says nothing: the server finds out within half a minute.
_KEEPALIVE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"


class Lease:
    """The lease of the environment whose state is in `folder`, of the ledger at a URL."""

    def __init__(self, folder: Path, ledger: str, environment: str) -> None:
        self._folder = folder
        self._database = database_at(ledger)
        key = zlib.crc32(environment.encode()) - (1 << 31)
        self._lock = f"SELECT pg_try_advisory_lock({_LEASES}, {key})"
        self._file: IO[str] | None = None
        self._connection: Any = None

    def held(self) -> bool:
        """Whether the lease is ours: taken if it is free, and taken again where the server has lost it.

        Raises
        ------
        TidemillError
            if the server does not answer.
        """
        return self._held_here() and (self._database.dialect != "postgresql" or self._held_there())

    def free(self) -> None:
        """Let another have it."""
        if self._connection is not None:
            with suppress(self._database.Error):
                self._connection.close()
        if self._file is not None:
            self._file.close()
        self._connection = self._file = None

    def _held_here(self) -> bool:
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

    def _held_there(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute("SELECT 1")
                return True
            connection = self._database.connect()
            connection.execute(_KEEPALIVE)
            if not connection.execute(self._lock).fetchone()[0]:
                connection.close()
                return False
        except self._database.Error as lost:
            self._connection = None
            raise self._database.explain(lost, "does not answer") from None
        self._connection = connection
        return True
