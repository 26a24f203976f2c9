"""The batches that a table has, read from its log once: Delta itself searches the whole log for each batch."""

from contextlib import suppress
from pathlib import Path

import msgspec
import polars as pl


class _Batch(msgspec.Struct):
    appId: str  # noqa: N815 - the name in the log


class _Action(msgspec.Struct):
    txn: _Batch | None = None


_decode = msgspec.json.Decoder(_Action).decode


class AppendedBatches:
    """The ids of the batches of one table; only the entries of the log that are new are read."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "_delta_log"
        self._table = ""
        self._version = -1
        self._ids: set[str] = set()

    def read(self, table: str, version: int) -> set[str] | None:
        """Return the ids of the batches in a version of the table with the id `table`; None if the log is incomplete.

        The set must not be changed.
        """
        if table != self._table or version < self._version:
            self._table, self._version, self._ids = table, -1, set()
        try:
            try:
                self._follow(version)
            except FileNotFoundError:  # the first entries were deleted after a checkpoint
                self._begin(version)
                self._follow(version)
        except (OSError, ValueError, pl.exceptions.PolarsError):
            self._table = ""
            return None
        return self._ids

    def _follow(self, version: int) -> None:
        for number in range(self._version + 1, version + 1):
            actions = (self._log / f"{number:020}.json").read_bytes().splitlines()
            added = [action.txn.appId for line in actions if b'"txn"' in line and (action := _decode(line)).txn]
            self._ids.update(added)
            self._version = number

    def _begin(self, version: int) -> None:
        """Read the newest checkpoint up to a version."""
        files = {}
        for file in self._log.glob("*.checkpoint.parquet"):
            with suppress(ValueError):
                files[int(file.name.partition(".")[0])] = file
        newest = max((number for number in files if number <= version), default=None)
        if newest is None:
            raise FileNotFoundError(self._log)
        recorded = pl.read_parquet(files[newest], columns=["txn"])["txn"].struct.field("appId")
        self._ids = set(recorded.drop_nulls())
        self._version = newest
