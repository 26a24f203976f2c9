"""Tables with history: Delta Lake; a batch is appended whole, and once."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from tidemill.errors import Conflict, NotFound, TidemillError
from tidemill.store.locks import locked

_COMPACT_EVERY = 50
_TRIES = 50


class DeltaTables:
    """The tables of one environment, each a Delta table in a folder under `root`."""

    writable: ClassVar[bool] = True

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, DeltaTable] = {}

    def _open(self, table: str) -> DeltaTable | None:
        """The newest state of a table; one that was opened before only reads what has come since."""
        known = self._known.get(table)
        try:
            if known is None:
                known = self._known[table] = DeltaTable(f"{self._root}/{table}")
            else:
                known.update_incremental()
        except TableNotFoundError:
            return None
        return known

    def version(self, table: str) -> int:
        """The newest version of a table, -1 where there is none yet."""
        found = self._open(table)
        return found.version() if found else -1

    def read(self, table: str, version: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of that version; raises `NotFound` where there is no such table or version."""
        try:
            found = DeltaTable(f"{self._root}/{table}", version=version)
        except TableNotFoundError:
            raise NotFound(
                f"there is no table {table!r}", "ingest its source first: `tidemill run ingestion`"
            ) from None
        except (DeltaError, OverflowError) as wrong:
            newest = self.version(table)
            if 0 <= version <= newest:
                raise TidemillError(
                    f"version {version} of table {table!r} cannot be read: {wrong}", "restore a backup, or ingest again"
                ) from wrong
            raise NotFound(f"table {table!r} has no version {version}", f"the newest is {newest}") from None
        rows = pl.scan_delta(found)
        return (rows.select(columns) if columns is not None else rows).collect()

    def append(self, table: str, batch: str, frame: pl.DataFrame) -> int:
        """Append a batch, unless it is there; the version that holds it.

        A column that the table does not have yet is added (null in older rows).

        Raises
        ------
        TidemillError
            if it cannot be written: nothing of it is in the table.
        """
        for _ in range(_TRIES):
            found = self._open(table)
            if found is not None and found.transaction_version(batch) is not None:
                return found.version()
            try:
                self._append(table, found, batch, frame)
            except (DeltaError, OSError) as refused:
                self._known.pop(table, None)
                if isinstance(refused, CommitFailedError):  # another process was first: see what it wrote
                    continue
                raise TidemillError(
                    f"batch {batch!r} could not be appended to table {table!r}: {refused}",
                    "check free space, permissions and the types of its columns; nothing of it is in the table",
                ) from refused
            return self._written(table)
        raise Conflict(f"table {table!r} keeps being written by others", "try again")

    def _append(self, table: str, found: DeltaTable | None, batch: str, frame: pl.DataFrame) -> None:
        once = CommitProperties(app_transactions=[Transaction(batch, 1)])
        if found is not None:
            write_deltalake(found, frame, mode="append", schema_mode="merge", commit_properties=once)
            return
        # Delta notices when two append the same batch, but not when two create the table with it.
        root = Path(self._root)
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{table}.lock"):
            if self._open(table) is not None:
                raise CommitFailedError("the table was created meanwhile")
            write_deltalake(str(root / table), frame, commit_properties=once)

    def _written(self, table: str) -> int:
        written = self._open(table)
        assert written is not None
        if written.version() % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            with suppress(CommitFailedError):  # another process is at it
                written.optimize.compact()
        return written.version()

    def drop(self, table: str) -> None:
        """Forget a table and its history."""
        self._known.pop(table, None)
        shutil.rmtree(Path(self._root) / table, ignore_errors=True)
