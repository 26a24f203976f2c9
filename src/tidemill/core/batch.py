"""Batch: rows that arrived together."""

from datetime import datetime

from msgspec import Struct


class Batch(Struct, frozen=True, kw_only=True):
    """Rows that arrived together: `id` changes when their bytes change.

    A batch with the `path` of an earlier one replaces its rows. A path that ends in `#7+2` is the second part after the
    seventh, which rewrote everything at that path: it ends whatever the parts before the seventh brought.

    `texts` are the columns to be read as they are written where the format has no types (CSV); with None the format
    decides.
    """

    id: str
    source: str
    known_at: datetime
    path: str
    texts: tuple[str, ...] | None = None
