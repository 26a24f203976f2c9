"""Corrected rows in a point-in-time join: a version is valid from its known-at time until that of the next version."""

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.core.columns import ROW_ID
from tidemill.data.arrays import Booleans, Ints
from tidemill.features.ranges import maximum_of_ranges

Number = TypeVar("Number", np.int64, np.float64)
NEVER = np.iinfo(np.int64).max


class Versions(NamedTuple):
    """For each row of a history, times in microseconds.

    `corrected` marks the versions of rows that have several; `first_known` is when the first version of the row became
    known, `until` when a later version became known (`NEVER`: it is the last one).
    """

    corrected: Booleans
    first_known: Ints
    until: Ints


def find_versions(history: pl.DataFrame, known: Ints) -> Versions:
    """Find the versions of rows: those with the same `ROW_ID`, in the order of the history."""
    corrected = np.zeros(history.height, dtype=bool)
    first_known, until = known.copy(), np.full(history.height, NEVER)
    ids = history[ROW_ID] if ROW_ID in history.columns else pl.Series([None] * history.height, dtype=pl.String)
    if ids.null_count() < len(ids):
        corrected = (ids.is_duplicated() & ids.is_not_null()).to_numpy()
    if corrected.any():
        versions = pl.DataFrame({"id": ids.filter(pl.Series(corrected)), "known": known[corrected]})
        later = pl.col("known").shift(-1).reverse().cum_min().reverse().fill_null(NEVER)
        found = versions.select(first=pl.col("known").min().over("id"), until=later.over("id"))
        first_known[corrected], until[corrected] = found["first"].to_numpy(), found["until"].to_numpy()
    return Versions(corrected, first_known, until)


def find_latest_version(
    spine_code: Ints, requested: Ints, code: Ints, happened: Ints, known: Ints, versions: Versions
) -> Ints:
    """Return for each request the index of the corrected row's version that happened last, of those valid then; or −1.

    Of versions of the same time, the one that became known last is used, then the one that arrived last.
    """
    rows = np.flatnonzero(versions.corrected & (code >= 0))
    requests = SortedRequests(spine_code, requested)
    order = np.lexsort((rows, known[rows], happened[rows]))
    merit = np.empty(len(rows), dtype=np.int64)
    merit[order] = np.arange(len(rows))
    begin = requests.find(code[rows], np.maximum(happened, known)[rows])
    end = requests.find(code[rows], versions.until[rows])
    best = requests.restore(maximum_of_ranges(len(requested), begin, end, merit))
    return np.where(best >= 0, rows[order][np.maximum(best, 0)], -1) if len(rows) else best


class SortedRequests:
    """The requests of a spine by entity and time."""

    def __init__(self, code: Ints, times: Ints) -> None:
        self._times, ranks = np.unique(times, return_inverse=True)
        combined = (code + 1) * (len(self._times) + 1) + ranks
        self._order = np.argsort(combined, kind="stable")
        self._combined = combined[self._order]
        self.count = len(combined)

    def find(self, code: Ints, time: Ints) -> Ints:
        """Return the position of the first request of an entity that is not before a time."""
        ranks = np.searchsorted(self._times, time, "left")
        return np.searchsorted(self._combined, (code + 1) * (len(self._times) + 1) + ranks, "left")

    def restore(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return values of the sorted requests in the order of the spine."""
        restored = np.empty_like(values)
        restored[self._order] = values
        return restored
