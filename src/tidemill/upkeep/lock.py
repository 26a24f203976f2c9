"""Upkeep: what deletes bytes and rows (gc, erase, restore) is alone in a workspace; backups run side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.errors import Conflict
from tidemill.ledger.database import Database
from tidemill.locks import lock_file


@contextmanager
def upkeep(root: Path, database: Database, *, shared: bool = False) -> Iterator[None]:
    """Be the only upkeep of a workspace, and of the ledger that several machines share; or a `shared` one.

    Raises
    ------
    Conflict
        if another is at work.
    """
    with lock_file(root / "upkeep.lock", wait=False, shared=shared) as mine:
        lock = database.lock("upkeep", shared=shared) if mine else None
        if lock is None:
            raise Conflict(
                f"a collection, an erasure or a backup is at work on {root}", "wait until it is over, then try again"
            )
        try:
            yield
        finally:
            lock.release()
