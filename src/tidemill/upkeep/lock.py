"""The upkeep lock: gc, erase and restore run alone in a workspace; backups can run at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.errors import Conflict, NotFound
from tidemill.ledger.database import Database
from tidemill.locks import lock_file


@contextmanager
def upkeep(root: Path, database: Database, *, shared: bool = False) -> Iterator[None]:
    """Lock the upkeep of a workspace and of its ledger, which several machines can share.

    Raises
    ------
    Conflict
        if another upkeep is running.
    NotFound
        if the workspace does not exist.
    """
    if not root.is_dir():
        raise NotFound(f"there is no workspace at {root}", "the first run creates it: `tidemill run PIPELINE`")
    with lock_file(root / "upkeep.lock", wait=False, shared=shared) as is_locked:
        lock = database.lock("upkeep", shared=shared) if is_locked else None
        if lock is None:
            raise Conflict(
                f"a garbage collection, an erasure or a backup is running on {root}",
                "wait until it has finished, then try again",
            )
        try:
            yield
        finally:
            lock.release()
