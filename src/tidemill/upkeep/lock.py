"""Upkeep: what takes bytes and rows away (gc, erase, restore) is alone in a workspace; backups go on together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.errors import Conflict
from tidemill.ledger.connections import connected, database_at
from tidemill.locks import locked

_UPKEEP = 0x71DF


@contextmanager
def upkeep(root: Path, ledger: str, *, shared: bool = False) -> Iterator[None]:
    """Be the only upkeep of a workspace, and of the ledger at a URL that several machines share; or a `shared` one.

    Raises
    ------
    Conflict
        if another is at work.
    """
    with locked(root / "upkeep.lock", wait=False, shared=shared) as mine, _locked_on_server(ledger, shared) as ours:
        if not (mine and ours):
            raise Conflict(
                f"a collection, an erasure or a backup is at work on {root}", "wait until it is over, then try again"
            )
        yield


@contextmanager
def _locked_on_server(ledger: str, shared: bool) -> Iterator[bool]:
    """The same between machines, where the ledger is on a server; it opens the lock when the connection ends."""
    database = database_at(ledger)
    if database.dialect != "postgresql":
        yield True
        return
    function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    with connected(database, "cannot be opened") as connection:
        yield connection.execute(f"SELECT {function}({_UPKEEP})").fetchone()[0]
