"""Splits a table into folds: each fold is tested on rows that its training rows do not have."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl

from tidemill.core.columns import TIME
from tidemill.data.arrays import Ints
from tidemill.data.split import group_equal_rows

SplitKind = Literal["time", "group", "stratified", "random"]
Fold = tuple[pl.DataFrame, pl.DataFrame]
"""The training rows and the test rows of a fold."""


def split_folds(
    frame: pl.DataFrame,
    kind: SplitKind,
    count: int,
    *,
    seed: int = 0,
    group: str = "",
    label: str = "",
    alike: tuple[str, ...] | None = None,
) -> Iterator[Fold]:
    """Yield at most `count` folds.

    By `time`, the test rows are blocks of the newer half, and the training rows of a block are all older ones (a
    rolling origin). Otherwise each row is in the test of one fold: copies, by the columns `alike`, and the
    rows of one `group`, are in the same one; if stratified, each fold has nearly the same shares of the values of
    `label`.
    """
    if kind == "time":
        yield from _split_by_time(frame, count)
        return
    rows, fold = _assign_folds(frame, kind, count, seed, group, label, alike)
    for number in range(count):
        is_test = pl.Series(fold == number)
        if is_test.any() and not is_test.all():
            yield rows.filter(~is_test), rows.filter(is_test)


def _split_by_time(frame: pl.DataFrame, count: int) -> Iterator[Fold]:
    ordered = frame.sort(TIME, maintain_order=True)
    times = ordered[TIME]
    cuts = np.linspace(ordered.height // 2, ordered.height, count + 1).astype(int)[:-1]
    # Rows with the same time stay together.
    begins = sorted({int(times.search_sorted(times[int(cut)], "left")) for cut in cuts if cut < ordered.height} - {0})
    for begin, end in zip(begins, [*begins, ordered.height][1:], strict=True):
        yield ordered[:begin], ordered[begin:end]


def _assign_folds(
    frame: pl.DataFrame,
    kind: SplitKind,
    count: int,
    seed: int,
    group: str,
    label: str,
    alike: tuple[str, ...] | None,
) -> tuple[pl.DataFrame, Ints]:
    """Return shuffled rows and the number of the fold of each row."""
    if kind == "group":
        rows = frame[np.random.default_rng(seed).permutation(frame.height)]
        units = rows[group].rank("dense").fill_null(0).to_numpy().astype(np.int64)
        units = np.unique(units, return_index=True)[1][np.unique(units, return_inverse=True)[1]]
    else:
        rows, units = group_equal_rows(frame, seed, alike, label)
    # The units in the order of their first rows, which is random; stratified: sorted by the label.
    first = np.unique(units)
    if kind == "stratified":
        first = first[np.argsort(rows[label][first.tolist()].rank("dense").fill_null(0).to_numpy(), kind="stable")]
    numbers = np.empty(rows.height, dtype=np.int64)
    numbers[first] = np.arange(len(first)) % count
    return rows, numbers[units]
