"""The point-in-time join: for each row of a spine, the values of its entity that were known at the row's time.

Times become ranks, and an entity with a rank becomes one integer, so that each join is a sort of the history and a
binary search for the spine: the spine keeps its rows and their order.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.feature import Aggregate, FeatureView
from tidemill.data.arrays import Booleans, Floats, Ints
from tidemill.data.frame import KNOWN_AT, TIME
from tidemill.data.keys import to_key_text
from tidemill.errors import DataError
from tidemill.features.ranges import sum_of_ranges
from tidemill.features.sums import window_sums
from tidemill.features.versions import NEVER, SortedRequests, Versions, find_latest_version, find_versions


class _EntityCodes(NamedTuple):
    """Entities as integers, the same on both sides; −1 if a key is null or the history does not contain it."""

    spine: Ints
    history: Ints


def join(spine: pl.DataFrame, view: FeatureView, history: pl.DataFrame) -> pl.DataFrame:
    """Return the spine with the columns of a view, with nulls in rows without a time.

    Rows of the history without a time are ignored.

    Parameters
    ----------
    spine : rows with the entity's keys and `TIME`, the time of each request.
    history : rows of the view's source with `TIME` (when it happened) and `KNOWN_AT`.

    Raises
    ------
    DataError
        if a key or a column is missing on either side.
    """
    _require_columns(spine, view, history)
    history = history.filter(pl.col(TIME).is_not_null() & pl.col(KNOWN_AT).is_not_null())
    codes = _encode_entities(spine, history, view.entity.keys)
    requested = _micros(spine[TIME])
    names = dict(zip((*view.columns, *(a.name for a in view.aggregates)), view.features, strict=True))
    added: list[pl.Series] = []
    known = _micros(history[KNOWN_AT])
    versions = find_versions(history, known)
    if view.columns:
        index = latest(codes, requested, _micros(history[TIME]), known, _age(view), versions)
        rows = history.select(view.columns)[np.maximum(index, 0)] if history.height else history.select(view.columns)
        is_known = pl.Series(index >= 0)
        added += [
            rows[column].zip_with(is_known, pl.Series([None], dtype=rows[column].dtype)).alias(names[column])
            if history.height
            else pl.Series(names[column], [None] * spine.height, dtype=rows[column].dtype)
            for column in view.columns
        ]
    if view.aggregates:
        every = int(parse_duration(view.every).total_seconds() * 1_000_000)
        window_ends = requested // every * every if every else requested
        statistics = aggregate(codes, window_ends, history, view.aggregates, versions)
        added += [pl.Series(names[name], values, nan_to_null=True) for name, values in statistics.items()]
    return spine.with_columns(added)


def latest(
    codes: _EntityCodes, requested: Ints, happened: Ints, known: Ints, age: int | None, versions: Versions
) -> Ints:
    """Return the index in the history of the latest row that had happened and was known at each request; −1 for none.

    Of rows of the same time, the last known row is used, then the last arrived one. A version that was corrected by
    then, and a row older than `age` (µs), are ignored.
    """
    index = _find_latest(codes, requested, happened, known, ~versions.corrected)
    if versions.corrected.any():
        other = find_latest_version(codes.spine, requested, codes.history, happened, known, versions)
        index = np.where(_is_later(other, index, happened, known), other, index)
    if age is None or not len(happened):
        return index
    return np.where((index >= 0) & (requested - happened[index] <= age), index, -1)


def _find_latest(codes: _EntityCodes, requested: Ints, happened: Ints, known: Ints, chosen: Booleans) -> Ints:
    """Return the index of the latest of the `chosen` rows at each request, as `latest` does; −1 for none."""
    order = np.lexsort((happened, np.maximum(happened, known), codes.history))
    order = order[chosen[order]]
    if not len(order):
        return np.full(len(requested), -1, dtype=np.int64)
    code, effective = codes.history[order], np.maximum(happened, known)[order]
    ranks, distinct_times = _ranks(effective)
    # In the order of the known-at times, the best row so far is the one that happened last.
    best = _running_best(code, happened[order], known[order])
    last_effective = (
        np.searchsorted(
            _combine(code, ranks, len(distinct_times)),
            _combine_requests(codes.spine, requested, distinct_times),
            "right",
        )
        - 1
    )
    fits = (last_effective >= 0) & (codes.spine >= 0)
    index = order[best[np.maximum(last_effective, 0)]]
    return np.where(fits & (codes.history[index] == codes.spine), index, -1)


def _is_later(index: Ints, other: Ints, happened: Ints, known: Ints) -> Booleans:
    """Return whether the rows at `index` are later than the rows at `other`; −1 is no row."""
    times = [np.where(rows >= 0, happened[rows], -NEVER) for rows in (index, other)]
    equal = (times[0] == times[1]) & (index >= 0)
    is_later_known = (known[index] > known[other]) | ((known[index] == known[other]) & (index > other))
    return np.asarray((times[0] > times[1]) | (equal & is_later_known))


def _running_best(code: Ints, happened: Ints, known: Ints) -> Ints:
    """Return for each row the index of the row that happened last among the earlier rows of its entity."""
    if not len(code):
        return code
    _, merit = np.unique(np.rec.fromarrays((code, happened, known)), return_inverse=True)
    # Merits grow with the entity, so a running maximum never reaches back into an earlier entity.
    best = np.maximum.accumulate(merit)
    last = np.zeros(len(code), dtype=np.int64)
    is_new = merit == best
    last[is_new] = np.flatnonzero(is_new)
    return np.maximum.accumulate(last)


def aggregate(
    codes: _EntityCodes,
    window_ends: Ints,
    history: pl.DataFrame,
    aggregates: tuple[Aggregate, ...],
    versions: Versions,
) -> dict[str, Floats]:
    """Return statistics of the values that became known in the windows before each time, by name; NaN for no value.

    Null and non-finite values are ignored. Of a corrected row the version that was known last counts, in the windows in
    which the row became known.
    """
    statistics: dict[str, Floats] = {}
    known = _micros(history[KNOWN_AT])
    for column in dict.fromkeys(feature.column for feature in aggregates):
        values = history[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        is_number = np.isfinite(values)
        same_column = [feature for feature in aggregates if feature.column == column]
        windows = [int(parse_duration(feature.window).total_seconds() * 1_000_000) for feature in same_column]
        single = is_number & ~versions.corrected
        counts, sums = _aggregate_rows(codes, window_ends, known, values, single, windows)
        if (several := is_number & versions.corrected & (codes.history >= 0)).any():
            requests = SortedRequests(codes.spine, window_ends)
            for number, window in enumerate(windows):
                count, total = _aggregate_versions(requests, codes.history, known, values, several, window, versions)
                counts[number] += count
                sums[number] += total
        for feature, count, total in zip(same_column, counts, sums, strict=True):
            statistics[feature.name] = _compute_statistic(feature, count, total)
    return {feature.name: statistics[feature.name] for feature in aggregates}


def _aggregate_rows(
    codes: _EntityCodes, window_ends: Ints, known: Ints, values: Floats, chosen: Booleans, windows: list[int]
) -> tuple[Ints, Floats]:
    """Return the counts and the sums of the `chosen` rows in each window, both of the shape (windows, requests)."""
    code, known_at = codes.history[chosen], known[chosen]
    order = np.lexsort((known_at, code))
    ranks, times = _ranks(known_at[order])
    combined = _combine(code[order], ranks, len(times))
    end = np.searchsorted(combined, _combine_requests(codes.spine, window_ends, times), "right")
    begins = [
        np.searchsorted(combined, _combine_requests(codes.spine, window_ends - window, times), "right")
        for window in windows
    ]
    begin = np.where(codes.spine < 0, end, np.reshape(begins, (len(windows), -1)))
    return end - begin, window_sums(values[chosen][order], begin, np.broadcast_to(end, begin.shape))


def _aggregate_versions(
    requests: SortedRequests,
    code: Ints,
    known: Ints,
    values: Floats,
    chosen: Booleans,
    window: int,
    versions: Versions,
) -> tuple[Ints, Floats]:
    """Return the counts and the sums of the `chosen` versions in one window before each request."""
    begin = requests.find(code[chosen], known[chosen])
    end = requests.find(code[chosen], np.minimum(versions.until[chosen], versions.first_known[chosen] + window))
    ones = np.ones(len(begin))
    counts, sums = (requests.restore(sum_of_ranges(requests.count, begin, end, of)) for of in (ones, values[chosen]))
    return counts.astype(np.int64), sums


def _compute_statistic(feature: Aggregate, counts: Ints, sums: Floats) -> Floats:
    if feature.statistic == "count":
        return counts.astype(np.float64)
    positive_counts = np.where(counts > 0, counts, np.nan)
    return np.where(counts > 0, sums, np.nan) if feature.statistic == "sum" else sums / positive_counts


def _encode_entities(spine: pl.DataFrame, history: pl.DataFrame, keys: tuple[str, ...]) -> _EntityCodes:
    untimed = spine[TIME].is_null().to_numpy()
    if not keys:
        return _EntityCodes(np.where(untimed, -1, 0), np.zeros(history.height, dtype=np.int64))
    names = [f"_key{number}" for number in range(len(keys))]
    spine_keys, history_keys = (
        pl.DataFrame([to_key_text(side[key]).alias(name) for key, name in zip(keys, names, strict=True)])
        for side in (spine, history)
    )
    entities = history_keys.drop_nulls().unique(maintain_order=True).with_row_index("_code")
    sides = (
        side.join(entities, on=names, how="left", maintain_order="left")["_code"].cast(pl.Int64).fill_null(-1)
        for side in (spine_keys, history_keys)
    )
    request_codes, history_codes = (side.to_numpy() for side in sides)
    return _EntityCodes(np.where(untimed, -1, request_codes), history_codes)


def _ranks(times: Ints) -> tuple[Ints, Ints]:
    """Return the ranks of times among the distinct times, from 1, and the distinct times."""
    distinct, ranks = np.unique(times, return_inverse=True)
    return ranks + 1, distinct


def _combine(code: Ints, ranks: Ints, distinct: int) -> Ints:
    """Return entity and rank as one sortable integer."""
    return (code + 1) * (distinct + 1) + ranks


def _combine_requests(code: Ints, requested: Ints, times: Ints) -> Ints:
    """Return entity and rank of requests: the rank of the last time in `times` that is not after the request."""
    return _combine(code, np.searchsorted(times, requested, "right"), len(times))


def _micros(times: pl.Series) -> Ints:
    return times.cast(pl.Datetime("us", "UTC")).to_physical().fill_null(0).to_numpy().astype(np.int64)


def _age(view: FeatureView) -> int | None:
    return int(parse_duration(view.ttl).total_seconds() * 1_000_000) if view.ttl else None


def _require_columns(spine: pl.DataFrame, view: FeatureView, history: pl.DataFrame) -> None:
    needed = (*view.entity.keys, *view.columns, *(a.column for a in view.aggregates))
    for side, frame, names in (("source", history, needed), ("rows to join", spine, (*view.entity.keys, TIME))):
        absent = [name for name in names if name not in frame.columns]
        if absent:
            raise DataError(
                f"view {view.name!r}: its {side} has no column {absent[0]!r}", f"there are: {', '.join(frame.columns)}"
            )
    if taken := [name for name in view.features if name in spine.columns]:
        raise DataError(
            f"view {view.name!r} has a feature {taken[0]!r}, which is also a column of the rows to join",
            "rename the view in features.py, or its column: a feature is called VIEW_COLUMN",
        )
