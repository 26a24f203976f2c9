"""The files of a batch that comes in parts: written one by one, and added to the table in one commit."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
from deltalake.transaction import AddAction, RemoveAction

from tidemill.errors import TidemillError
from tidemill.journal.widening import wider_types


class PartFiles:
    """The files of one batch in the folder of its table; until they are committed, no reader sees them."""

    def __init__(self, folder: Path, batch: str) -> None:
        self._folder = folder
        self._prefix = f"batch-{hashlib.sha256(batch.encode()).hexdigest()[:16]}-"
        self.additions: list[AddAction | RemoveAction] = []

    def sweep(self) -> None:
        """Delete the files of this batch; call it only while the batch is in no version of the table."""
        for file in self._folder.glob(f"{self._prefix}*.parquet"):
            file.unlink(missing_ok=True)
        self.additions.clear()

    def write(self, parts: Iterable[pl.DataFrame], prepare: Callable[[pl.DataFrame], pl.Schema]) -> None:
        """Write each part with the columns that `prepare` returns for it: those of the table.

        Raises
        ------
        TidemillError
            if a column of a part does not fit in the table.
        """
        for number, part in enumerate(parts):
            name = f"{self._prefix}{number:05}-{uuid.uuid4().hex[:8]}.parquet"
            file = self._folder / name
            to_columns(part, prepare(part)).write_parquet(file, compression="zstd")
            _flush(file)
            status = file.stat()
            self.additions.append(
                AddAction(
                    path=name,
                    size=status.st_size,
                    partition_values={},
                    modification_time=int(status.st_mtime * 1000),
                    data_change=True,
                    stats=json.dumps({"numRecords": part.height}),
                )
            )


def to_columns(part: pl.DataFrame, columns: pl.Schema) -> pl.DataFrame:
    """Return a part with the columns and types of its table; raise `TidemillError` if its values do not fit them."""
    wider = wider_types(columns, part)
    if wider:
        name = next(iter(wider))
        raise TidemillError(
            f"column {name!r} has the type {columns[name]} in the table, and {part.schema[name]} in a file that is too "
            "large to be read at once",
            "give the column one type in the schema file of its source, or split the file; no row of it was written",
        )
    present = part.schema
    return part.select(
        (pl.col(name) if name in present else pl.lit(None)).cast(dtype).alias(name) for name, dtype in columns.items()
    )


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
