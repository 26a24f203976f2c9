"""Tables with history: Delta Lake; a batch is appended whole, and once."""

import shutil
from pathlib import Path
from typing import ClassVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from tidemill.errors import NotFound

_COMPACT_EVERY = 50


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

    def read(self, table: str, version: int) -> pl.DataFrame:
        """The rows of that version."""
        try:
            found = DeltaTable(f"{self._root}/{table}", version=version)
        except TableNotFoundError:
            raise NotFound(
                f"there is no table {table!r}", "ingest its source first: `tidemill run ingestion`"
            ) from None
        return pl.scan_delta(found).collect()

    def append(self, table: str, batch: str, frame: pl.DataFrame) -> int:
        """Append a batch, unless it is there; the version that holds it.

        A column that the table does not have yet is added (null in older rows).
        """
        found = self._open(table)
        if found is not None and found.transaction_version(batch) is not None:
            return found.version()
        write_deltalake(
            found if found is not None else f"{self._root}/{table}",
            frame,
            mode="append",
            schema_mode="merge",
            commit_properties=CommitProperties(app_transactions=[Transaction(batch, 1)]),
        )
        written = self._open(table)
        assert written is not None
        if written.version() % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            written.optimize.compact()
        return written.version()

    def drop(self, table: str) -> None:
        """Forget a table and its history."""
        self._known.pop(table, None)
        shutil.rmtree(Path(self._root) / table, ignore_errors=True)
