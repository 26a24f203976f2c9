"""Arrow types that Polars cannot read: a column of such a type is refused by name, before Polars fails."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tidemill.errors import Unreadable

_UNKNOWN = ("decimal256", "list_view", "month_day_nano", "run_end_encoded", "sparse_union", "dense_union")
_CURE = "convert the column, for example to a decimal of at most 38 digits, to a list or to text, or remove it"


def require_known_types(schema: Iterable[Any], about: str) -> None:
    """Raise unless Polars can read each field of an Arrow schema; `about` names the table.

    Raises
    ------
    Unreadable
        if a field has another type; the error names it and its type.
    """
    for field in schema:
        kind = str(getattr(field, "type", ""))
        if any(word in kind for word in _UNKNOWN):
            raise Unreadable(f"column {field.name!r} of {about} has the Arrow type {kind}, which cannot be read", _CURE)


def explain_parquet(source: Path | Any, name: str, error: BaseException) -> Unreadable:
    """Return the error for a Parquet file that Polars cannot read; it names the column if PyArrow is installed."""
    message = str(error).partition("\n")[0]
    try:
        from pyarrow import parquet

        if not isinstance(source, Path):
            source.seek(0)
        require_known_types(parquet.read_schema(source), name)
    except Unreadable as refusal:
        return refusal
    except Exception:  # noqa: BLE001 - without PyArrow, or for a file that is not Parquet, the first error stays
        return Unreadable(f"{name} cannot be read as parquet: {message}", "check that the file is complete")
    return Unreadable(f"{name} cannot be read as parquet: {message}", _CURE)
