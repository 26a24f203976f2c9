"""Batch: rows that arrived together."""

from datetime import datetime

from msgspec import Struct

from tidemill.core.schema import ColumnType


class Batch(Struct, frozen=True, kw_only=True):
    """Rows that arrived together; `id` changes when their bytes change.

    A batch with the `path` of an earlier batch replaces its rows. A path that ends in `#7+2` is the second part after
    part 7. Part 7 rewrote the whole table at that path, so the rows of the parts before it are no longer current.

    `types` are the declared types of columns, for formats without types (CSV); with None the values decide.
    """

    id: str
    source: str
    known_at: datetime
    path: str
    types: dict[str, ColumnType] | None = None
