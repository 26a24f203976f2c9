"""Splits rows into train, validation and test: by time where rows have one, so that training precedes the test."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.policy import Training
from tidemill.data.arrays import Ints
from tidemill.data.frame import TIME
from tidemill.errors import DataError

# Equal rows beyond both of these are alike by nature: they are no copies.
_MOST_COPIES = 20
_MOST_ALIKE = 0.01


class Split(NamedTuple):
    """Three parts of one table; `validation` may be empty, and the search for parameters never sees `test`."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame


def kind_of(options: Training, *, timed: bool) -> Literal["time", "random", "group", "stratified"]:
    """How a policy splits: as it says, else by time where the rows have one (`timed`), else at random."""
    return options.split or ("time" if timed else "random")


def by_time(frame: pl.DataFrame, test: str, share: float, validation: float, minimum: int = 0) -> Split:
    """The newest rows are the test; before them come the validation rows, and before those the training rows.

    `test` is a length of time; where it would take more than half of the rows, or none, the newest `share` of the
    rows is taken instead. Where it has fewer than `minimum` rows it grows until it has these, or the share.
    `validation` is a share of the rows that are left.
    """
    if not frame.height:
        return _hold(Split(frame, frame, frame))
    ordered = frame.sort(TIME, maintain_order=True)
    times = ordered[TIME]
    newest = times[-1]
    early = int((times <= newest - parse_duration(test)).sum())
    if not 0.5 * len(times) <= early < len(times):
        early = _first_of_moment(times, int(len(times) * (1 - share)))
    if len(times) - early < (wanted := min(minimum, int(len(times) * share))):
        early = _first_of_moment(times, len(times) - wanted)
    middle = min(_first_of_moment(times, int(early * (1 - validation))), early)
    return _hold(Split(ordered[:middle], ordered[middle:early], ordered[early:]))


def at_random(
    frame: pl.DataFrame, share: float, validation: float, seed: int, alike: Sequence[str] | None = None
) -> Split:
    """Shuffled rows, for tables without a time; the same seed and rows give the same split.

    Rows that are equal in the columns `alike` (in all, where it is None) stay on one side: copies of a row would let a
    model be tested on what it has learned. More than 20 equal rows, or 1 % of all where that is more, are no copies but
    alike by nature, and are split.
    """
    shuffled, first = _with_equal_rows_together(frame, seed, alike)
    early = _first_of_equal(first, int(frame.height * (1 - share)))
    middle = min(_first_of_equal(first, int(early * (1 - validation))), early)
    return _hold(Split(shuffled[:middle], shuffled[middle:early], shuffled[early:]))


def _with_equal_rows_together(frame: pl.DataFrame, seed: int, alike: Sequence[str] | None) -> tuple[pl.DataFrame, Ints]:
    """Shuffled rows, each followed by its equals, and for each row the number of the first of these, in order."""
    shuffled = frame[np.random.default_rng(seed).permutation(frame.height)]
    names = frame.columns if alike is None else [name for name in alike if name in frame.columns]
    compared = [name for name in names if not frame.schema[name].is_nested()]
    if not compared or not frame.height:
        return shuffled, np.arange(frame.height)
    columns = [f"column_{place}" for place in range(len(compared))]  # a table may have any name
    placed = shuffled.select(pl.col(name).alias(column) for name, column in zip(compared, columns, strict=True))
    row = pl.col("row")
    kept = pl.when(pl.len().over(columns) <= max(_MOST_COPIES, frame.height * _MOST_ALIKE))
    first = placed.with_row_index("row").select(kept.then(row.min().over(columns)).otherwise(row).cast(pl.Int64))
    firsts = first.to_series().to_numpy()
    order = np.argsort(firsts, kind="stable")
    return shuffled[order], firsts[order]


def _first_of_equal(first: Ints, place: int) -> int:
    """Move a cut to the nearer end of the equal rows that it would part, unless one side were then empty."""
    if not 0 < place < len(first):
        return place
    begin, end = (int(np.searchsorted(first, first[place], side)) for side in ("left", "right"))
    inside = [cut for cut in (begin, end) if 0 < cut < len(first)]
    return min(inside, key=lambda cut: abs(cut - place), default=place)


def by_group(frame: pl.DataFrame, group: str, share: float, validation: float, seed: int) -> Split:
    """All rows of a group (a patient, a machine) on one side: the test asks for entities that were never seen.

    Groups are drawn in an order of the seed, those larger than the test's share last, and the cut is at the group that
    comes nearest to a share: a part of several is larger or smaller by at most half a group. Of two groups none is
    left for validation. Rows without a group are one.

    Raises
    ------
    DataError
        if there is no such column, or fewer than two groups.
    """
    if group not in frame.columns:
        raise DataError(f"there is no column {group!r} to group by", f"the columns are: {', '.join(frame.columns)}")
    groups = frame.group_by(group).len("_rows").sort(group, nulls_last=True)
    if groups.height < 2:
        raise DataError(
            f"column {group!r} has fewer than two values in {frame.height} rows: nothing to split by",
            'give rows of more groups, or split otherwise: [training] split = "random"',
        )
    groups = groups[np.random.default_rng(seed).permutation(groups.height)]
    groups = groups.sort(pl.max_horizontal("_rows", frame.height * share), maintain_order=True)
    test = _count_until(groups["_rows"], share)
    left = groups[test:]
    held = _count_until(left["_rows"], validation) if validation and left.height > 1 else 0
    parts = (left[held:], left[:held], groups[:test])
    return _hold(
        Split(*(frame.join(part, on=group, how="semi", nulls_equal=True, maintain_order="left") for part in parts))
    )


def stratified(
    frame: pl.DataFrame, label: str, share: float, validation: float, seed: int, alike: Sequence[str] | None = None
) -> Split:
    """Shuffled rows with the same mixture of labels in every part, as nearly as whole rows allow.

    Equal rows stay together, as in `at_random`.

    Raises
    ------
    DataError
        if there is no such column, or too few rows.
    """
    if label not in frame.columns:
        raise DataError(f"there is no column {label!r} to stratify by", f"the columns are: {', '.join(frame.columns)}")
    names = frame.columns if alike is None else [*alike, label]
    shuffled, first = _with_equal_rows_together(frame, seed, names)
    # The middle of each row's place within its label, from 0 to 1: a cut there cuts every label at the same share.
    place = ((pl.int_range(pl.len()) + 0.5) / pl.len()).over(label)
    places = shuffled.select(place.alias("place"), pl.Series("first", first))
    together = places.select(pl.col("place").mean().over("first"))["place"]
    middle = (1 - share) * (1 - validation)
    train, test = together < middle, together >= 1 - share
    return _hold(Split(shuffled.filter(train), shuffled.filter(~train & ~test), shuffled.filter(test)))


def _count_until(sizes: pl.Series, share: float) -> int:
    """How many groups, and at least one, come nearest to a share of all their rows."""
    middles = (sizes.cum_sum() - sizes / 2) / sizes.sum()
    return max(1, int((middles < share).sum()))


def _first_of_moment(times: pl.Series, place: int) -> int:
    """Move a cut to the first row of its moment, or past the first moment: rows of one moment stay together."""
    place = min(max(place, 0), len(times) - 1)
    first = int(times.search_sorted(times[place], "left"))
    if first > 0:
        return first
    after = int(times.search_sorted(times[place], "right"))
    return after if after < len(times) else place


def _hold(split: Split) -> Split:
    if not split.train.height or not split.test.height:
        raise DataError(
            f"too few rows to split: {split.train.height} to train on, {split.test.height} to test on",
            "give more rows, or set a smaller test_share under [training]",
        )
    return split
