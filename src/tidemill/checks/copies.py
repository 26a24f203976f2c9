"""Finds copies of rows: test rows that are also training rows, and tables with mostly repeated rows."""

import numpy as np
import polars as pl

from tidemill.checks.gate import Finding
from tidemill.data.arrays import Floats
from tidemill.data.keys import to_row_keys

_SAMPLE_ROWS = 50_000
_MOST_SHARED = 0.01
_MOST_REPEATED = 0.05
_MOSTLY = 0.5
# The variance of the counts of values divided by their mean; below it values repeat more evenly than by chance.
_EVEN = 0.25
_NEAR = 50
_UNEVEN = 0.1
_SURE = 3.0


def find_copies(train: pl.DataFrame, test: pl.DataFrame, key: tuple[str, ...], whole: tuple[str, ...]) -> list[Finding]:
    """Find test rows that are also training rows; if there are none, find repeated rows in the whole table.

    Rows with a `key` are compared by their key, other rows by the columns `whole`. Equal rows that are no copies, as
    in a table of few values, are expected at the rate of the training rows.
    """
    both = {*train.columns} & {*test.columns}
    columns = [name for name in dict.fromkeys(whole) if name in both]
    if key and set(key) <= both:
        train_keys, test_keys = (to_row_keys(rows, key).alias("key").to_frame() for rows in (train, test))
        findings = _find_shared(train_keys.drop_nulls(), test_keys.drop_nulls(), ["key"], by_chance=None)
        # Rows without a key, such as served rows, are compared with each other as a whole.
        train, test = train.filter(train_keys["key"].is_null()), test.filter(test_keys["key"].is_null())
        if findings or not columns or not test.height:
            return findings
        return _find_shared(train, test, columns, _estimate_chance(_stack(train, test, columns)))
    if not columns or not test.height:
        return []
    rows = _stack(train, test, columns)
    by_chance = _estimate_chance(rows)
    return _find_shared(train, test, columns, by_chance) or _find_repeated(rows, by_chance)


def _stack(train: pl.DataFrame, test: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    return pl.concat([train.select(columns), test.select(columns)], how="vertical_relaxed")


def _find_shared(train: pl.DataFrame, test: pl.DataFrame, columns: list[str], by_chance: float | None) -> list[Finding]:
    """Return a finding if test rows are training rows by these columns; `by_chance` is None for columns of a key."""
    if not columns or not test.height:
        return []
    rows = train.select(columns)
    shared = test.join(rows, on=columns, how="semi", nulls_equal=True).height / test.height
    alike = min(int(rows.is_duplicated().sum()) / max(rows.height, 1), by_chance or 0.0)
    most = max(_MOST_SHARED, 2 * alike)
    if shared <= most + (0.0 if by_chance is None else _SURE * float(np.sqrt(most / test.height))):
        return []
    reason = f"{shared:.0%} of the test rows are among its training rows"
    return [Finding(about="test rows", outcome="fail", reason=reason, evidence={"test_rows_in_training": shared})]


def _find_repeated(rows: pl.DataFrame, by_chance: float) -> list[Finding]:
    """Return a finding if more rows of a table are copies than expected by chance; a failure if most rows are."""
    repeated = int(rows.is_duplicated().sum()) / max(rows.height, 1)
    most = max(_MOST_REPEATED, 2 * by_chance)
    if repeated <= most + _SURE * float(np.sqrt(most / rows.height)):
        return []
    reason = (
        f"{repeated:.0%} of the rows are copies of other rows: without a split that keeps equal rows together, test "
        f"rows of the candidate would be among its training rows: remove the copies, or set the key of the source"
    )
    evidence = {"repeated_rows": repeated}
    return [
        Finding(about="test rows", outcome="fail" if repeated > _MOSTLY else "warn", reason=reason, evidence=evidence)
    ]


def _estimate_chance(rows: pl.DataFrame) -> float:
    """Return an upper bound of the share of rows that are equal by chance: that of the column with the least.

    Each distinct row counts once, so that copies do not make values more frequent. A number with many digits rarely
    repeats by chance; a number like 31.4 does. If the values of a column repeat as unevenly as by chance, the column is
    no evidence of copies; in a table of copies all values repeat about equally often.
    """
    distinct = rows.unique(maintain_order=True)
    return min((_estimate_equal_share(rows[name], distinct[name]) for name in rows.columns), default=1.0)


def _estimate_equal_share(values: pl.Series, of_distinct_rows: pl.Series) -> float:
    if values.dtype.is_nested():
        return 1.0
    counts = values.alias("value").value_counts()["count"].to_numpy().astype(float)
    if counts.var() / counts.mean() >= _EVEN:
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
