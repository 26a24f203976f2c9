"""What every SQLite file of the house needs: a write-ahead log, and patience with other processes."""

import sqlite3
import time

_PATIENCE = 60.0


def prepare(connection: sqlite3.Connection) -> None:
    """Bring a fresh connection into write-ahead logging; its statements wait for other processes."""
    connection.execute(f"PRAGMA busy_timeout={int(_PATIENCE * 1000)}")
    # Unlike other statements, the change into WAL does not wait while another process opens the same new file.
    deadline = time.monotonic() + _PATIENCE
    while not _in_wal(connection):
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")
        time.sleep(0.01)
    connection.execute("PRAGMA synchronous=NORMAL")


def _in_wal(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as refused:
        if "locked" not in str(refused):
            raise
        return False
    return True
