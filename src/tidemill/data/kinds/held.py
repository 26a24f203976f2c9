"""A frame in hand as a source: of Polars, pandas, Arrow, or anything that speaks Arrow's C stream."""

from datetime import datetime
from typing import Any

import polars as pl

from tidemill.core.resources import Batch
from tidemill.data.kinds.kind import content_of
from tidemill.errors import DataError


class Held:
    """One batch: the rows of a frame."""

    def __init__(self, name: str, frame: Any) -> None:
        self._name = name
        self._rows = as_polars(frame)

    def batches(self, until: datetime) -> list[Batch]:
        identity = f"{self._name}/frame@{content_of(self._rows)}"
        return [Batch(id=identity, source=self._name, known_at=until, path="frame in hand")]

    def rows(self, batch: Batch) -> pl.DataFrame:  # noqa: ARG002 - there is one
        return self._rows


def as_polars(frame: Any) -> pl.DataFrame:
    """Any frame as one of Polars; raises `DataError` for what is none."""
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    try:
        if type(frame).__module__.startswith("pandas"):
            return pl.from_pandas(frame)
        if hasattr(frame, "pl"):  # a relation of DuckDB
            return pl.DataFrame(frame.pl())
        if hasattr(frame, "__arrow_c_stream__"):
            return pl.DataFrame(frame)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as wrong:
        said = str(wrong).partition("\n")[0]
        raise DataError(f"a frame cannot be taken: {said}", "give each column one name and one type") from None
    kind = type(frame).__name__
    raise DataError(f"a {kind} is no frame", "give a frame of Polars, pandas or Arrow, or a relation of DuckDB")
