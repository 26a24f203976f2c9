"""Finds copies of rows: test rows that are training rows, and tables in which most rows are there more than once."""

import numpy as np
import polars as pl

from tidemill.checks.gate import Finding
from tidemill.data.arrays import Floats

_LOOKED_AT = 50_000
_MOST_SHARED = 0.01
_MOST_REPEATED = 0.05
_MOSTLY = 0.5
# Below it values are repeated more evenly than chance does: variance over mean of how often each one comes.
_EVEN = 0.25
_NEAR = 50
_UNEVEN = 0.1
_SURE = 3.0


def find_copies(train: pl.DataFrame, test: pl.DataFrame, key: tuple[str, ...], whole: tuple[str, ...]) -> list[Finding]:
    """Test rows that are training rows, too; and copies in the table, where the split keeps them on one side.

    Rows are compared by their `key` where they have one, else as a `whole`. Rows that are alike by nature are so
    within the training as well.
    """
    both = {*train.columns} & {*test.columns}
    columns = [name for name in dict.fromkeys(whole) if name in both]
    if key and set(key) <= both:
        has_key = pl.all_horizontal(pl.col(key).is_not_null())
        found = _find_shared(train.filter(has_key), test.filter(has_key), list(key), by_chance=None)
        # Rows without a key, such as served rows, are compared with each other as a whole.
        train, test = train.filter(~has_key), test.filter(~has_key)
        if found or not columns or not test.height:
            return found
        return _find_shared(train, test, columns, _by_chance(_stack(train, test, columns)))
    if not columns or not test.height:
        return []
    rows = _stack(train, test, columns)
    by_chance = _by_chance(rows)
    return _find_shared(train, test, columns, by_chance) or _repeated(rows, by_chance)


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


def _repeated(rows: pl.DataFrame, by_chance: float) -> list[Finding]:
    """Copies of rows in a table whose split keeps them together: where they are most of it, no figure counts rows."""
    repeated = int(rows.is_duplicated().sum()) / max(rows.height, 1)
    most = max(_MOST_REPEATED, 2 * by_chance)
    if repeated <= most + _SURE * float(np.sqrt(most / rows.height)):
        return []
    reason = (
        f"{repeated:.0%} of the rows are copies of others; only a split that keeps equal rows together keeps test rows "
        "from being among its training rows: remove the copies, or name the key of the rows"
    )
    evidence = {"repeated_rows": repeated}
    return [
        Finding(about="test rows", outcome="fail" if repeated > _MOSTLY else "warn", reason=reason, evidence=evidence)
    ]


def _by_chance(rows: pl.DataFrame) -> float:
    """The most rows, as a share, that are alike without being copies: as many as the column has that tells most apart.

    Each distinct row counts once, so that copies do not make values look frequent: a number that was measured to many
    digits tells rows apart, of one like 31.4 some fall together. A value that is as frequent as chance makes it, by
    how unevenly values are repeated, tells nothing; in a table of copies each comes as often as its row.
    """
    distinct = rows.unique(maintain_order=True)
    return min((_alike(rows[name], distinct[name]) for name in rows.columns), default=1.0)


def _alike(values: pl.Series, of_distinct_rows: pl.Series) -> float:
    if values.dtype.is_nested():
        return 1.0
    counts = values.value_counts()["count"].to_numpy().astype(float)
    if counts.var() / counts.mean() >= _EVEN:
        return 1.0
    repeated = int(of_distinct_rows.is_duplicated().sum()) / max(len(of_distinct_rows), 1)
    if not of_distinct_rows.dtype.is_numeric():
        return repeated
    numbers = of_distinct_rows.cast(pl.Float64).drop_nulls()
    return max(repeated, _collisions(numbers.filter(numbers.is_finite())))


def _collisions(numbers: pl.Series) -> float:
    """How many rows, as a share, a number cannot tell from others: how close the nearest lie, in steps of its values.

    They are counted around each value, so that neither an outlier nor a long tail makes the rest seem far apart, and
    a value that many rows have tells none of them from the others.
    """
    ordered = np.sort(numbers.to_numpy())
    apart = np.diff(np.unique(ordered))
    if not apart.size:
        return 1.0
    step = _step(apart, numbers)
    near = min(_NEAR, ordered.size - 1)
    spans = ordered[near:] - ordered[:-near]
    return float(np.minimum(1.0, near * step / np.maximum(spans, step)).mean())


def _step(apart: Floats, numbers: pl.Series) -> float:
    """The step of which all distances are multiples (1 of prices like 9.99), else that in which they are written."""
    multiples = apart / apart.min()
    if np.abs(multiples - multiples.round()).mean() < _UNEVEN:
        return float(apart.min())
    decimals = numbers.head(_LOOKED_AT).cast(pl.String).str.extract(r"\.(\d*?)0*$").str.len_chars().median()
    return 10.0**-decimals if isinstance(decimals, float) else float(np.spacing(np.abs(numbers.to_numpy()).max()))
