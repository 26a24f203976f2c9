"""Finds copies of rows: test rows that are also training rows, and tables with mostly repeated rows."""

import numpy as np
import polars as pl

from tidemill.checks.gate import Finding
from tidemill.data.copies import estimate_chance, labels_differ
from tidemill.data.keys import to_row_keys

_MOST_SHARED = 0.01
_MOST_REPEATED = 0.05
_MOSTLY = 0.5
_SURE = 3.0


def find_copies(
    train: pl.DataFrame, test: pl.DataFrame, key: tuple[str, ...], whole: tuple[str, ...], label: str
) -> list[Finding]:
    """Find test rows that are also training rows; if there are none, find repeated rows in the whole table.

    Rows with a `key` are compared by their key, other rows by the columns `whole`. Equal rows that are no copies, as
    in a table of few values, are expected at the rate of the training rows. The `label` is one of the columns.
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
        return _find_shared(train, test, columns, _find_chance(_stack(train, test, columns), label))
    if not columns or not test.height:
        return []
    rows = _stack(train, test, columns)
    by_chance = _find_chance(rows, label)
    return _find_shared(train, test, columns, by_chance) or _find_repeated(rows, by_chance)


def _stack(train: pl.DataFrame, test: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    return pl.concat([train.select(columns), test.select(columns)], how="vertical_relaxed")


def _find_chance(rows: pl.DataFrame, label: str) -> float:
    """Return the share of rows that can be equal by chance: all, if rows that are equal have different labels."""
    inputs = [name for name in rows.columns if name != label and not rows.schema[name].is_nested()]
    if inputs and label in rows.columns and labels_differ(rows.select(inputs).hash_rows(seed=0), rows[label]):
        return 1.0
    return estimate_chance(rows)


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
