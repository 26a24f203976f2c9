"""Equal rows: whether they are copies of one row, or different rows of a table with few values."""

import numpy as np
import polars as pl

from tidemill.data.arrays import Floats

_SAMPLE_ROWS = 50_000
_NEAR = 50
_UNEVEN = 0.1
_SURE = 3.0
# The variance of the counts of values divided by their mean; below it values repeat more evenly than by chance.
_EVEN = 0.25
# Equal rows with different labels, as a share of those that rows without any relation to their label would have.
_DISAGREEING = 0.1
_FEWEST_DISAGREEING = 5


def are_copies(rows: pl.DataFrame, hashes: pl.Series, labels: pl.Series | None = None) -> bool:
    """Return whether the equal rows of a table are copies of one row.

    Copies have the label of their row. If equal rows have different labels, they are different rows: a table of few
    values, such as a class and an age, has many of them. If their labels agree, they are copies if no column has so
    few values that rows are equal by chance.

    Parameters
    ----------
    rows
        The inputs, without the label.
    hashes
        A hash of each row; equal rows have equal hashes.
    labels
        The label of each row; None if the rows have none.
    """
    repeated = float(hashes.is_duplicated().sum()) / max(rows.height, 1)
    if not repeated or (labels is not None and labels_differ(hashes, labels)):
        return False
    distinct = rows.filter(hashes.is_first_distinct())
    for name in rows.columns:
        by_chance = 2 * estimate_repeats(distinct[name])
        if repeated > by_chance + _SURE * float(np.sqrt(by_chance / rows.height)):
            return True
    return False


def labels_differ(hashes: pl.Series, labels: pl.Series) -> bool:
    """Return whether equal rows, by their hashes, have different labels more often than a few mistakes explain."""
    shares = labels.alias("label").value_counts()["count"].to_numpy() / len(labels)
    groups = pl.DataFrame({"hash": hashes, "label": labels}).group_by("hash").agg(pl.len(), pl.col("label").n_unique())
    groups = groups.filter(pl.col("len") > 1)
    sizes = groups["len"].to_numpy()
    # The share of groups of a size in which unrelated labels would differ, for all sizes at once.
    unrelated = {int(size): 1 - float(np.sum(shares ** float(size))) for size in np.unique(sizes)}
    expected = sum(size * unrelated[int(size)] for size in sizes)
    found = int(groups.filter(pl.col("label") > 1)["len"].sum())
    return found >= _FEWEST_DISAGREEING and found > _DISAGREEING * expected


def estimate_chance(rows: pl.DataFrame) -> float:
    """Return an upper bound of the share of rows that are equal by chance: that of the column with the least.

    Each distinct row counts once, so that copies do not make values more frequent. A number with many digits rarely
    repeats by chance; a number like 31.4 does. If the values of a column repeat as unevenly as by chance, the column is
    no evidence of copies; in a table of copies all values repeat about equally often.
    """
    distinct = rows.unique(maintain_order=True)
    names = [name for name in rows.columns if not _repeats_unevenly(rows[name])]
    return min((estimate_repeats(distinct[name]) for name in names), default=1.0)


def _repeats_unevenly(values: pl.Series) -> bool:
    if values.dtype.is_nested():
        return True
    counts = values.alias("value").value_counts()["count"].to_numpy().astype(float)
    return bool(counts.var() / counts.mean() >= _EVEN)


def estimate_repeats(of_distinct_rows: pl.Series) -> float:
    """Return the share of distinct rows whose value in this column is also the value of another one by chance."""
    if of_distinct_rows.dtype.is_nested():
        return 1.0
    repeated = int(of_distinct_rows.is_duplicated().sum()) / max(len(of_distinct_rows), 1)
    if not of_distinct_rows.dtype.is_numeric():
        return repeated
    numbers = of_distinct_rows.cast(pl.Float64).drop_nulls()
    return max(repeated, _estimate_collisions(numbers.filter(numbers.is_finite())))


def _estimate_collisions(numbers: pl.Series) -> float:
    """Return the share of rows whose number collides with another by chance, from the density in steps of its values.

    The density is measured around each value, so that outliers and long tails do not reduce it elsewhere.
    """
    ordered = np.sort(numbers.to_numpy())
    gaps = np.diff(np.unique(ordered))
    if not gaps.size:
        return 1.0
    step = _find_step(gaps, numbers)
    near = min(_NEAR, ordered.size - 1)
    spans = ordered[near:] - ordered[:-near]
    return float(np.minimum(1.0, near * step / np.maximum(spans, step)).mean())


def _find_step(gaps: Floats, numbers: pl.Series) -> float:
    """Return the step of which all gaps are multiples (1 for 9.99 and 10.99), or a unit of the last written decimal."""
    multiples = gaps / gaps.min()
    if np.abs(multiples - multiples.round()).mean() < _UNEVEN:
        return float(gaps.min())
    decimals = numbers.head(_SAMPLE_ROWS).cast(pl.String).str.extract(r"\.(\d*?)0*$").str.len_chars().median()
    return 10.0**-decimals if isinstance(decimals, float) else float(np.spacing(np.abs(numbers.to_numpy()).max()))
