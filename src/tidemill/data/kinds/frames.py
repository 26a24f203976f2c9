"""A frame in memory as a source: a frame of Polars or pandas, or any object with Arrow's C stream interface."""

from datetime import datetime
from typing import Any

import polars as pl

from tidemill.core.batch import Batch
from tidemill.core.columns import require_usable_names
from tidemill.data.arrow_types import require_known_types
from tidemill.data.kinds.kind import hash_frame
from tidemill.data.storable import to_storable
from tidemill.errors import DataError, MissingExtra


class FrameSource:
    """One batch: a copy of the rows of a frame. Another frame for the same source replaces it."""

    def __init__(self, name: str, frame: Any) -> None:
        self._name = name
        self._rows = to_polars(frame)
        self._identity = f"{name}/frame@{hash_frame(self._rows)}"

    def batches(self, until: datetime) -> list[Batch]:
        return [Batch(id=self._identity, source=self._name, known_at=until, path="frame in hand")]

    def rows(self, batch: Batch) -> pl.DataFrame:  # noqa: ARG002 - there is one
        return self._rows.clone()  # a caller may modify the frame


def to_polars(frame: Any) -> pl.DataFrame:
    """Convert any frame to Polars, with the named indexes of pandas as columns; raise `DataError` for other objects."""
    try:
        converted = _convert(frame)
    except ModuleNotFoundError as absent:
        raise MissingExtra(absent.name or "pyarrow", "pandas") from None
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        message = str(error).partition("\n")[0]
        raise DataError(
            f"a frame cannot be converted: {message}", "use one name and one type for each column"
        ) from None
    if converted is None:
        kind = type(frame).__name__
        raise DataError(f"a {kind} is not a frame", "pass a frame of Polars, pandas or Arrow, or a relation of DuckDB")
    require_usable_names(converted.columns, "a frame")
    return to_storable(converted, "a frame")


def _convert(frame: Any) -> pl.DataFrame | None:
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame.clone()
    if type(frame).__module__.startswith("pandas") and hasattr(frame, "columns"):
        # A copy, because Polars would share its memory and pandas modifies frames.
        return pl.from_pandas(frame.copy(), include_index=any(name is not None for name in frame.index.names))
    if hasattr(frame, "pl"):  # a relation of DuckDB
        return pl.DataFrame(frame.pl())
    is_arrow = hasattr(frame, "__arrow_c_stream__") and (hasattr(frame, "schema") or hasattr(frame, "columns"))
    if is_arrow:
        require_known_types(getattr(frame, "schema", ()), "a frame")
    return pl.DataFrame(frame) if is_arrow else None
