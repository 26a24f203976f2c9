"""Calibrates a comparison on the reference's own windows: how much normal life varies between windows of its length.

The p-values of `column_tests` are for independent rows. Rows of real streams depend on each other, and their mean
changes with the hour and the season. A column has only moved if it differs by more than the reference's own windows.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import accumulate
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from tidemill.data.arrays import Floats
from tidemill.data.history import (
    HALVINGS,
    ColumnHistory,
    History,
    Ints,
    find_constant_windows,
    list_scales,
    sum_before,
    sum_steps,
    sum_windows,
    unpack_bounds,
    unpack_counts,
)
from tidemill.data.marks import count_marks
from tidemill.data.statistics import ColumnProfile

Comparison = Literal["level", "step"]

_LEAST_WINDOWS = 16
_LEAST_ROWS = 20
_LEAST_PREFIX = 0.4
_CACHED = 4096
_SIGNIFICANT = 3.0
_LEAST_SIZE = 0.05
_INDEPENDENT_MARKS = 3  # neighbouring marks of a distribution are correlated


class Variation(Struct, frozen=True):
    """The variation of a column between windows of one length, beyond that of independent rows.

    `variances` are those of the share at each mark, `noises` the part of independent rows in the estimate, `windows`
    the number of independent windows, and `most` the largest standardized difference of a window. `is_independent` is
    whether the windows vary no more than those of independent rows; `variances` is then an upper bound. `units` is the
    number of independent values in a window: one where a value lasts for the whole window, such as the weather.
    """

    variances: Floats
    noises: Floats
    windows: Floats
    most: float
    is_independent: bool
    units: float = math.inf


class Compared(Struct, frozen=True, kw_only=True):
    """A column in two windows, its reference, and the variation of the reference; of its missing values, or others.

    The variance of the variation is multiplied by `factor`.
    """

    now: ColumnProfile
    before: ColumnProfile
    reference: ColumnProfile
    variation: Variation
    factor: float
    missing: bool
    is_step: bool = False


def compare_with_variation(compared: Sequence[Compared], *, beyond: float) -> list[float]:
    """Return for each column the p-value of its largest difference, given the variation of its reference.

    It is 1 unless the difference is `beyond` times the largest one of the reference. All columns are computed at once,
    because most of the time is that of a call of NumPy.

    The difference at a mark divided by its standard error has Student's t distribution, with the degrees of freedom of
    Satterthwaite (1946): the variance of independent rows is known, the variation is estimated from windows.
    """
    from scipy.special import ndtr, stdtr

    results = [1.0] * len(compared)
    columns: list[tuple[int, Compared]] = []
    marks: list[int] = []
    counted: tuple[list[int], list[int], list[int]] = [], [], []
    rows: tuple[list[int], list[int], list[int]] = [], [], []
    for index, one in enumerate(compared):
        profiles = (one.now, one.before, one.reference)
        found = [_read(column, one.reference, missing=one.missing) for column in profiles]
        if not found[0][1] or not found[1][1] or not found[0][0]:
            continue
        columns.append((index, one))
        marks.append(len(found[0][0]))
        for number, (marked, size) in enumerate(found):
            counted[number].extend(marked)
            rows[number].append(size)
    if not columns:
        return results
    counts, known = [np.asarray(part, float) for part in counted[:2]], np.asarray(counted[2], float)
    sizes = [np.repeat(part, marks) for part in rows]
    shares = [part / size for part, size in zip(counts, sizes, strict=False)]
    pooled = (counts[0] + counts[1] + 0.5) / (sizes[0] + sizes[1] + 1)
    known = (known + 0.5) / (sizes[2] + 1)
    varied = np.concatenate([one.variation.variances * one.factor for _, one in columns])
    varied = np.minimum(varied, known * (1 - known))  # as if all rows of the window were the same
    variances = pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]) + varied
    scores = np.abs(shares[0] - shares[1]) / np.sqrt(variances)
    begins = [0, *accumulate(marks)][:-1]
    largest = np.maximum.reduceat(scores, begins).tolist()
    for (index, one), count, begin, score in zip(columns, marks, begins, largest, strict=True):
        variation = one.variation
        if score <= beyond * variation.most:
            continue
        own = slice(begin, begin + count)
        if variation.is_independent:
            p_values = 2 * ndtr(-scores[own]) * count
        else:
            ratios = variances[own] / np.maximum(varied[own] + variation.noises, 1e-300)
            freedom = variation.windows * ratios**2
            p_values = 2 * stdtr(np.clip(freedom, 1.0, 1e6), -scores[own]) * count
            if math.isinf(variation.units):
                results[index] = float(min(p_values.min(), 1.0))
                continue
            units = max(variation.units / one.factor, 1.0)
            differences = shares[0][own] - shares[1][own]
            if one.is_step:
                chances = np.minimum(variances[own] * units / 2, 0.5)
                rare = compute_tail(chances, np.abs(differences), units, sizes[0][begin])
            else:
                rises = differences > 0
                chances = np.where(rises, known[own], 1 - known[own])
                seen = np.where(rises, shares[0][own], 1 - shares[0][own])
                rare = compute_tail(chances, seen, units, sizes[0][begin])
            p_values = np.maximum(p_values, 2 * rare * count)
        results[index] = float(min(p_values.min(), 1.0))
    return results


def compute_tail(chances: Floats, shares: Floats, units: float, rows: float) -> Floats:
    """Return the probability of at least a share of hits in a window of so many independent `units`.

    `chances` are those of a hit. The share has the beta distribution with this mean and the variance of so many units:
    where a value lasts for the whole window, all rows are hits with the chance of one. A normal tail would call that
    impossible.
    """
    from scipy.special import betainc

    size, most = max(units - 1, _LEAST_SIZE), 1 - 0.5 / max(rows, 1.0)
    tail: Floats = betainc((1 - chances) * size, chances * size, 1 - np.minimum(shares, most))
    return tail


def _read(column: ColumnProfile, reference: ColumnProfile, *, missing: bool) -> tuple[tuple[int, ...], int]:
    return ((column.missing,), column.rows) if missing else (count_marks(column, reference), column.present)


def choose_scale(history: History, seconds: float) -> int | None:
    """Return the longest scale within a period of which the reference has 16 windows with rows, or the shortest one.

    None if the rows of the reference are too few for any.
    """
    usable = _list_usable_scales(history.rows)
    lengths = list_scales(history)
    return max((scale for scale in usable if lengths[scale] <= seconds), default=min(usable, default=None))


@lru_cache(_CACHED)
def _list_usable_scales(rows: tuple[int, ...]) -> tuple[int, ...]:
    """Return the scales of which a reference has 16 windows with enough rows, by the rows of its pieces."""
    history, counts = History(start=0.0, block=1.0, rows=rows), np.asarray(rows)
    return tuple(
        scale
        for scale in range(len(list_scales(history)))
        if history.blocks / max(2 ** (scale - HALVINGS), 1) >= _LEAST_WINDOWS
        and np.median(sum_windows(counts, scale)) >= _LEAST_ROWS
    )


def compute_factor(history: History, scale: int, seconds: float) -> float:
    """Return the factor of the variance of windows that are shorter than a scale: it grows as their length falls."""
    return max(float(list_scales(history)[scale]) / max(seconds, 1e-9), 1.0)


def measure_variation(
    history: History, name: str, scale: int, comparison: Comparison, *, missing: bool, lasting: bool = True
) -> Variation | None:
    """Return the variation of a column between windows of a scale; None if the history has no such windows.

    A value can be `lasting`: the same for all rows of a window, such as the weather. Then windows that the history does
    not contain are possible: marks that none of them reached vary as much as the others, and `units` are counted.

    A `level` compares a window with all other rows, and with the rows before it if they are two fifths of the
    reference: a release also meets a season that its training rows do not have. A `step` compares a window with the
    window as long before it.
    """
    column = history.columns.get(name)
    if column is None or not (missing or column.marks):
        return None
    measured, key = history.measured, (name, scale, comparison, missing, lasting)
    if key not in measured:
        measured[key] = _measure_column(history.rows, column, scale, comparison, missing, lasting)
    found: Variation | None = measured[key]
    return found


def _measure_column(
    piece_rows: tuple[int, ...], column: ColumnHistory, scale: int, comparison: Comparison, missing: bool, lasting: bool
) -> Variation | None:
    rows, counts = np.asarray(piece_rows), unpack_counts(column)
    hits, sizes = ((rows - counts[:, 0])[:, None], rows) if missing else (counts[:, 1:], counts[:, 0])
    length = max(2 ** (scale - HALVINGS), 1)
    inside, n = sum_windows(hits, scale), sum_windows(sizes, scale)
    units = _count_units(inside, n) if lasting else math.inf
    measure = partial(_measure, lasting=lasting)
    if comparison == "step":
        (newer, older), (n, m) = sum_steps(hits, scale), sum_steps(sizes, scale)
        found = measure(newer, n, older, m, hits, sizes, length)
        return replace(found, units=units) if found else None
    variation = measure(inside, n, hits.sum(axis=0) - inside, sizes.sum() - n, hits, sizes, length)
    before, m = sum_before(hits)[: len(n)], sum_before(sizes)[: len(n)]
    late = m >= _LEAST_PREFIX * sizes.sum()
    forward = measure(inside[late], n[late], before[late], m[late], hits, sizes, length)
    if variation is None or forward is None:
        found = variation or forward
        return replace(found, units=units) if found else None
    larger = forward.variances > variation.variances
    return Variation(
        np.maximum(variation.variances, forward.variances),
        np.where(larger, forward.noises, variation.noises),
        variation.windows,
        max(variation.most, forward.most),
        variation.is_independent and forward.is_independent,
        units,
    )


def _count_units(inside: Ints, n: Ints) -> float:
    """Return how many independent values a window has, from how much alike its rows are (intraclass correlation)."""
    kept = n >= _LEAST_ROWS / 2
    if kept.sum() < _LEAST_WINDOWS // 2 or not inside.shape[1]:
        return math.inf
    shares = inside[kept] / n[kept, None]
    means = shares.mean(axis=0)
    possible = float((means * (1 - means)).sum())
    return possible / max(float(shares.var(axis=0).sum()), possible / float(n[kept].mean()), 1e-12) if possible else 1.0


def _measure(
    newer: Ints, n: Ints, older: Ints, m: Ints, hits: Ints, sizes: Ints, length: int, *, lasting: bool
) -> Variation | None:
    kept = (n >= _LEAST_ROWS / 2) & (m >= _LEAST_ROWS / 2)
    if kept.sum() < _LEAST_WINDOWS // 2 or not newer.shape[1]:
        return None
    n, m = n[kept, None], m[kept, None]
    share = (hits.sum(axis=0) + 0.5) / (sizes.sum() + 1)
    differences = newer[kept] / n - older[kept] / m
    noise = share * (1 - share) * (1 / n + 1 / m)
    windows, typical = _count_independent(differences, length), noise.mean(axis=0)
    excess = float((differences**2 / noise).mean()) - 1
    deviation = float(np.sqrt(2 / (len(differences) / length * min(_INDEPENDENT_MARKS, len(share)))))
    is_independent = excess < _SIGNIFICANT * deviation
    variances = np.maximum((differences**2 - noise).mean(axis=0), 0.0)
    if is_independent:
        variances = typical * (max(excess, 0.0) + deviation)
    elif lasting:
        # A mark that none of the windows reached varies as much as the others, as a share of what is possible.
        possible = share * (1 - share)
        variances = np.maximum(variances, possible * float(variances.sum() / possible.sum()))
    most = float((np.abs(differences) / np.sqrt(noise + variances)).max(initial=0.0))
    return Variation(variances, typical, windows, most, is_independent)


def _count_independent(differences: Floats, length: int) -> Floats:
    """Return the number of independent windows at each mark, from the correlation of neighbours (Bartlett 1935)."""
    series = differences[::length]
    centred = series - series.mean(axis=0)
    squares = np.maximum((centred**2).sum(axis=0), 1e-300)
    correlation = np.clip((centred[1:] * centred[:-1]).sum(axis=0) / squares, 0.0, 0.99)
    windows: Floats = np.maximum(len(series) * (1 - correlation) / (1 + correlation), 1.0)
    return windows


def was_ever_constant(history: History, name: str, seconds: float) -> bool | None:
    """Return whether a column had one value for a quarter of a period; None if the reference cannot show it."""
    column, scale = history.columns.get(name), choose_scale(history, seconds / 4)
    bounds = unpack_bounds(column) if column else None
    if scale is None or bounds is None or float(list_scales(history)[scale]) > seconds:
        return None
    constant, windows = find_constant_windows(bounds, scale)
    return bool(constant) if windows >= _LEAST_WINDOWS else None
