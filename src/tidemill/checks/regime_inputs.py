"""Compares the inputs of the newest rows with the training profiles of releases, row by row (for recall)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from tidemill.checks.regime import InputFit
from tidemill.data.arrays import Floats, Ints
from tidemill.data.statistics import ColumnProfile, Profile

_MOST_PER_COLUMN = 3.0
_MOST_PER_ROW = 2.0
_LENGTHS = (12, 25, 50, 100, 200)
_SCREEN_LEVEL = 0.2
_FIT_LEVEL = 1e-4
_LEAST_ROWS = 8
_SMALLEST = 1e-9


class InputRows(NamedTuple):
    """Rows as numbers and texts by column; times and nested columns are excluded."""

    numbers: dict[str, Floats]
    texts: dict[str, list[str | None]]
    height: int


def read_inputs(rows: pl.DataFrame, reference: Profile, excluded: Sequence[str] = ()) -> InputRows:
    """Return the columns of rows that a profile has, as numbers (NaN for missing) or texts."""
    numbers: dict[str, Floats] = {}
    texts: dict[str, list[str | None]] = {}
    for column in reference.columns:
        if column.name not in rows.columns or column.name in excluded or column.type in ("time", "date", "nested"):
            continue
        values = rows[column.name]
        if column.type == "text":
            texts[column.name] = values.cast(pl.String, strict=False).to_list()
        elif column.edges and not values.dtype.is_nested():
            array = values.cast(pl.Float64, strict=False).to_numpy().astype(float)
            numbers[column.name] = np.where(np.isfinite(array), array, np.nan)
    return InputRows(numbers, texts, rows.height)


def may_have_changed(rows: InputRows, reference: Profile) -> bool:
    """Return whether some of the newest rows may be from other inputs than those of a profile.

    It is a screen without a proof: Kolmogorov–Smirnov distances and category shares of the newest 12 to 200 rows, at
    level .2 by the inequality of Dvoretzky, Kiefer & Wolfowitz with Massart's constant. A change of one row in five
    screens is no error, because a recall needs more evidence.
    """
    return any(
        _find_excess(rows, reference, rows.height - length, _SCREEN_LEVEL) > 0
        for length in _LENGTHS
        if rows.height >= length
    )


def compare_inputs(rows: InputRows, champion: Profile, stored: Sequence[Profile]) -> list[InputFit]:
    """Return how the newest rows fit the inputs of each stored profile better than those of the champion."""
    return [_compare(rows, champion, profile) for profile in stored]


def _compare(rows: InputRows, champion: Profile, other: Profile) -> InputFit:
    ratios, apart, middle = compute_log_ratios(rows, champion, other)
    if apart <= 0 or len(ratios) < _LEAST_ROWS:
        return InputFit(0.0, rows.height, fits=False)
    evidence, start = _accumulate(ratios, apart, middle)
    fits = rows.height - start >= _LEAST_ROWS and _find_excess(rows, other, start, _FIT_LEVEL) <= 0
    return InputFit(evidence, start, fits)


def _accumulate(ratios: Floats, apart: float, middle: float) -> tuple[float, int]:
    """Return the largest calibrated log-likelihood ratio of the newest rows, and the index of the first of them.

    The ratio of a row is a sum over columns as if they were independent. Its means under both profiles are exact all
    the same; its variance is that of the rows. So the sum is read as a linear discriminant (Fisher 1936) with these two
    means and this variance, which is calibrated if columns are correlated. If rows hang together, fewer rows count:
    the evidence is divided by (1 + r) / (1 - r) for the correlation r of successive rows (Bartlett 1935).
    """
    start = len(ratios)
    scale = 1.0
    for _ in range(2):  # the start of the change decides what the variance is about
        residuals = ratios.copy()
        for part in (slice(0, start), slice(start, None)):
            if len(residuals[part]):
                residuals[part] -= residuals[part].mean()
        variance = max(float(residuals.var()), (apart / 50) ** 2, _SMALLEST)
        correlation = 0.0
        if len(residuals) > 2 and residuals.std() > 0:
            correlation = float(np.clip((residuals[1:] * residuals[:-1]).mean() / residuals.var(), 0.0, 0.98))
        scale = apart / variance * (1 - correlation) / (1 + correlation)
        steps = np.clip((ratios - middle) * scale, -_MOST_PER_ROW, _MOST_PER_ROW)
        sums = np.cumsum(steps[::-1])
        at = int(sums.argmax())
        start = len(ratios) - 1 - at if sums[at] > 0 else len(ratios)
    return (float(sums[at]), start) if start < len(ratios) else (0.0, start)


def compute_log_ratios(rows: InputRows, champion: Profile, other: Profile) -> tuple[Floats, float, float]:
    """Return for each row the log of its density under `other` to that under `champion`, as for independent columns.

    Also return the distance of its means under the two profiles, and the value half-way between the means.
    """
    totals = np.zeros(rows.height)
    under_champion = under_other = 0.0
    for column in champion.columns:
        match = other.column(column.name)
        if match is None or (column.name not in rows.numbers and column.name not in rows.texts):
            continue
        cells = _find_number_cells(rows, column, match) if column.name in rows.numbers else None
        cells = cells or _find_text_cells(rows, column, match)
        if cells is None:
            continue
        positions, first, second = cells
        ratio = np.clip(np.log(second / first), -_MOST_PER_COLUMN, _MOST_PER_COLUMN)
        totals += ratio[positions]
        under_champion += float((first * ratio).sum())
        under_other += float((second * ratio).sum())
    return totals, under_other - under_champion, (under_champion + under_other) / 2


def _find_number_cells(
    rows: InputRows, column: ColumnProfile, other: ColumnProfile
) -> tuple[Ints, Floats, Floats] | None:
    """Return the cell of each row, and the share of each cell under both profiles; the last cell is for missing."""
    if not other.edges or not column.edges:
        return None
    edges = np.unique([*column.edges, *other.edges])
    values = rows.numbers[column.name]
    positions: Ints = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, "left"))
    first, second = (_smooth(_count_cells(profile, edges), profile) for profile in (column, other))
    return positions, first, second


def _count_cells(column: ColumnProfile, edges: Floats) -> Floats:
    """Return the number of a profile's rows in each cell between edges of two profiles, and of its missing rows."""
    own = np.asarray(column.edges)
    up_to = np.cumsum(np.asarray(column.counts, float))[:-1]
    present = float(sum(column.counts))
    low = column.low if column.low is not None else own[0]
    high = column.high if column.high is not None else own[-1]
    if sum(column.ties) > 0.5 * present:  # few distinct values: nothing lies between two of them
        index = np.searchsorted(own, edges, "right")
        cumulated = np.concatenate(([0.0], up_to))[index]
    else:
        lowest = np.nextafter(min(low, own[0]), -np.inf)
        highest = np.nextafter(max(high, own[-1]), np.inf)
        cumulated = np.interp(edges, [lowest, *own, highest], [0.0, *up_to, present])
    return np.concatenate((np.diff(np.concatenate(([0.0], cumulated, [present]))).clip(0), [float(column.missing)]))


def _find_text_cells(
    rows: InputRows, column: ColumnProfile, other: ColumnProfile
) -> tuple[Ints, Floats, Floats] | None:
    if column.name not in rows.texts:
        return None
    names = list(dict.fromkeys((*column.values, *other.values)))
    index = {name: position for position, name in enumerate(names)}
    positions = np.array(
        [len(names) + 1 if text is None else index.get(text, len(names)) for text in rows.texts[column.name]], dtype=int
    )
    counts = [
        np.array([*(profile.values.get(name, 0) for name in names), profile.other, profile.missing], float)
        for profile in (column, other)
    ]
    return positions, _smooth(counts[0], column), _smooth(counts[1], other)


def _smooth(counts: Floats, column: ColumnProfile) -> Floats:
    """Return shares from counts, none of them zero: half a row is added to each cell (Krichevsky & Trofimov 1981)."""
    return (counts + 0.5) / (column.rows + 0.5 * len(counts))


def _find_excess(rows: InputRows, reference: Profile, start: int, level: float) -> float:
    """Return the largest distance of the rows from `start` on to a profile, above its critical value over columns."""
    height = rows.height - start
    names = [column for column in reference.columns if column.name in rows.numbers or column.name in rows.texts]
    if height < 1 or not names:
        return 0.0
    excess = -1.0
    for column in names:
        if column.name in rows.numbers:
            distance, count = _distance(rows.numbers[column.name][start:], column)
        else:
            distance, count = _distance_of_texts(rows.texts[column.name][start:], column)
        if count and column.rows:
            critical = np.sqrt(np.log(2 * len(names) / level) / 2 * (1 / count + 1 / column.rows))
            excess = max(excess, distance - float(critical))
    return excess


def _distance(values: Floats, column: ColumnProfile) -> tuple[float, int]:
    """Return the Kolmogorov–Smirnov distance at the edges of a profile, or of the missing shares if that is larger."""
    missing = float(np.isnan(values).mean()) if len(values) else 0.0
    apart = abs(missing - column.missing / max(column.rows, 1))
    values = values[~np.isnan(values)]
    if not len(values) or not column.present:
        return apart, max(len(values), 1)
    ordered = np.sort(values)
    now = np.searchsorted(ordered, column.edges, "right") / len(ordered)
    then = np.cumsum(column.counts)[:-1] / max(sum(column.counts), 1)
    return max(apart, float(np.abs(now - then).max())), len(values)


def _distance_of_texts(texts: list[str | None], column: ColumnProfile) -> tuple[float, int]:
    """Return the largest change of the share of a value, of all other values, or of missing values."""
    shares = {name: count / max(column.rows, 1) for name, count in column.values.items()}
    counts: dict[str, float] = {}
    other = missing = 0.0
    for text in texts:
        if text is None:
            missing += 1 / len(texts)
        elif text in shares:
            counts[text] = counts.get(text, 0.0) + 1 / len(texts)
        else:
            other += 1 / len(texts)
    apart = [abs(counts.get(name, 0.0) - share) for name, share in shares.items()]
    apart += [abs(other - column.other / max(column.rows, 1)), abs(missing - column.missing / max(column.rows, 1))]
    return max(apart), len(texts)
