"""Schema: the columns, types and values that a batch must have to be accepted."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

ColumnType = Literal["boolean", "integer", "number", "text", "time", "date", "nested", "empty"]


class Column(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column: its type and its allowed values.

    Attributes
    ----------
    name
        The name.
    type
        The type. Tidemill accepts integers for `number`, and text for `number` if it can be read as one; ISO
        8601 text for `time` and `date`; numbers such as 7.0, but no text, for `integer`. `nested` is a list or
        a record. `empty` is a column without values so far: it accepts any type, and gets the type of its first
        values in the next version of the schema.
    required
        Whether the column must be in the batch.
    missing
        The largest share of nulls. In a batch of few rows a higher share is accepted, if chance can explain it;
        0 accepts none.
    low
        The lowest allowed value; a lower one stops the batch.
    high
        The highest allowed value; a higher one stops the batch.
    finite
        Whether NaN and infinite numbers stop the batch.
    domain
        The allowed values; another value stops the batch. Without it, every value is allowed.
    about
        A description.
    """

    name: str
    type: ColumnType
    required: bool = True
    missing: float = 1.0
    low: float | None = None
    high: float | None = None
    finite: bool = True
    domain: tuple[str, ...] | None = None
    about: str = ""


class Schema(Struct, frozen=True, kw_only=True):
    """The columns of a source, and rules for a whole batch.

    Attributes
    ----------
    source
        The source.
    columns
        The columns.
    key
        Columns whose values must be unique together.
    extra_columns
        Whether a column that is not in the schema stops the batch.
    minimum_rows
        The least number of rows.
    ahead
        How far the event time may be after the arrival of the batch; `""` is any time.
    version
        The version. Raise it after a change of the file.
    """

    source: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    extra_columns: Literal["stop", "ignore"] = "stop"
    minimum_rows: int = 1
    ahead: str = "1d"
    version: int = 1

    def column(self, name: str) -> Column | None:
        """Return the column with that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def types(self) -> dict[str, ColumnType]:
        """Return the type of each column that had values so far."""
        return {column.name: column.type for column in self.columns if column.type != "empty"}


class SchemaVersion(Struct, frozen=True, kw_only=True):
    """An accepted version of a schema, with the `reason` and the person or process that accepted it (`by`)."""

    id: str
    source: str
    version: int
    schema: Schema
    accepted: datetime
    by: str = "inferred"
    reason: str = ""
