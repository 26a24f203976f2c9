"""The ids of the rows of a batch that comes in parts: those that `name_rows` gives the whole batch."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from tidemill.core.columns import ROW_ID
from tidemill.data.arrays import Ints
from tidemill.data.identity import digest_values
from tidemill.data.keys import to_row_keys

_NONE: Ints = np.zeros(0, dtype=np.int64)


class PartNames:
    """Counts equal rows in all parts first, and then names the rows of each part.

    Equal rows are counted by the digests of their values, which need 8 bytes of memory for each row.
    """

    def __init__(self, key: Sequence[str], path: str) -> None:
        self._key, self._path = key, path
        self._needs_digests = not key
        self._is_complete = True
        self._digests: list[Ints] = []
        self._equal: Ints = _NONE
        self._numbers: Ints = _NONE
        self.counted = False

    def add(self, rows: pl.DataFrame) -> None:
        """Take the rows of the next part."""
        if not self._needs_digests and self._find_keys(rows) is None:
            self._needs_digests, self._is_complete = True, not self._digests
        if self._needs_digests:
            self._digests.append(_to_numbers(digest_values(rows, self._path)))
        else:
            self._digests.append(_NONE)

    def finish(self) -> None:
        """Count equal rows after the last part; all parts are needed again if a row without a key came late."""
        digests, self._digests = self._digests, []
        if not self._is_complete:
            self._is_complete = True
            return
        if self._needs_digests and digests:
            unique, counts = np.unique(np.concatenate(digests), return_counts=True)
            self._equal = unique[counts > 1]
            self._numbers = np.zeros(len(self._equal), dtype=np.int64)
        self.counted = True

    def name(self, rows: pl.DataFrame) -> pl.Series:
        """Return the ids of the rows of the next part."""
        keys = to_row_keys(rows, self._key).alias(ROW_ID) if self._has_key(rows) else None
        if keys is not None and not keys.null_count():
            self._number(rows)
            return keys
        named = self._number(rows)
        return named if keys is None else keys.zip_with(keys.is_not_null(), named)

    def _has_key(self, rows: pl.DataFrame) -> bool:
        return bool(self._key) and set(self._key) <= set(rows.columns)

    def _find_keys(self, rows: pl.DataFrame) -> pl.Series | None:
        """Return the keys of rows that all have one."""
        keys = to_row_keys(rows, self._key) if self._has_key(rows) else None
        return None if keys is None or keys.null_count() else keys

    def _number(self, rows: pl.DataFrame) -> pl.Series:
        """Return the digests of rows; the second of equal ones has the suffix `+2`, and so on."""
        if not self._needs_digests:
            return pl.Series(ROW_ID, [None] * rows.height, dtype=pl.String)
        digests = digest_values(rows, self._path)
        numbers = _to_numbers(digests)
        positions = np.searchsorted(self._equal, numbers)
        positions[positions == len(self._equal)] = 0
        repeated = np.flatnonzero(self._equal[positions] == numbers) if len(self._equal) else _NONE
        if not len(repeated):
            return digests
        named = digests.to_list()
        for row in repeated.tolist():
            position = positions[row]
            self._numbers[position] += 1
            if self._numbers[position] > 1:
                named[row] = f"{named[row]}+{self._numbers[position]}"
        return pl.Series(ROW_ID, named, dtype=pl.String)


def _to_numbers(digests: pl.Series) -> Ints:
    numbers = np.fromiter((int(digest, 16) for digest in digests), dtype=np.uint64, count=len(digests))
    return numbers.view(np.int64)
