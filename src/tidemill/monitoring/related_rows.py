"""How rows fit the relations of a reference, kept for the next look: most rows of its window are the same."""

from functools import lru_cache

import polars as pl

from tidemill.data.relations import relate
from tidemill.data.statistics import Profile

_KEPT = 8  # references of the last looks
_MOST_ROWS = 50_000


class RelatedRows:
    """The rows of the last window by their ids, and how they fit the relations of one reference."""

    def __init__(self) -> None:
        self._ids, self._related = pl.Series([], dtype=pl.String), pl.DataFrame()

    def relate(self, ids: pl.Series, features: pl.DataFrame, reference: Profile) -> pl.DataFrame:
        """Return `relate(features, reference)`; rows that the last window had are not computed again.

        A row with an id never changes. Only the end of the last window is used, if this window begins with it.
        """
        known = self._count_known(ids)
        new = relate(features[known:], reference) if known < len(ids) else self._related.clear()
        related = pl.concat([self._related.tail(known), new]) if known else new
        if len(ids) <= _MOST_ROWS:
            self._ids, self._related = ids, related
        return related

    def _count_known(self, ids: pl.Series) -> int:
        """Return how many of the first rows are the last ones of the last window."""
        first = self._ids.index_of(ids[0]) if len(ids) and len(self._ids) else None
        if first is None:
            return 0
        known = self._ids[first:]
        return len(known) if known.equals(ids[: len(known)], check_names=False) else 0


@lru_cache(_KEPT)
def find_related_rows(reference: bytes) -> RelatedRows:  # noqa: ARG001 - the key of the cache
    """Return the rows that are kept for a reference, by the bytes of its profile."""
    return RelatedRows()
