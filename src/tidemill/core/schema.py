"""Schema: what a table must look like to be let in."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

ColumnType = Literal["boolean", "integer", "number", "text", "time", "date", "nested"]


class Column(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column: its type, and the bounds of what is possible in it.

    A value outside `low` … `high` or outside a closed `domain` is schema skew: it stops the pipeline. An open
    vocabulary (no `domain`) may grow. `missing` is the largest share of nulls that is let in (few rows may have more,
    as far as chance explains it; 0 means none); of a `finite` column no number may be NaN or infinite. A `number` may
    come as whole numbers, and as text that can be read as numbers, a `time` and a `date` as text of ISO 8601 and of
    no other form; an `integer` also with a point (7.0), as pandas writes integers with gaps, but never as text.
    `nested` are lists and records.
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
    """The columns of a source, its `key` columns (unique together), and what happens to columns beside these.

    A batch has at least `minimum_rows`, and no row whose event time lies more than `ahead` after its arrival ("" for
    no bound).
    """

    source: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    extra_columns: Literal["stop", "ignore"] = "stop"
    minimum_rows: int = 1
    ahead: str = "1d"
    version: int = 1

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of text, which stay as they are written where a form has no types."""
        return tuple(column.name for column in self.columns if column.type == "text")


class SchemaVersion(Struct, frozen=True, kw_only=True):
    """A schema as it was accepted: `reason` and `by` say why and by whom."""

    id: str
    source: str
    version: int
    schema: Schema
    accepted: datetime
    by: str = "inferred"
    reason: str = ""
