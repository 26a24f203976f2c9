"""Splits rows into train, validation and test: by time where there is one, so that nobody learns from the future."""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from tidemill.clock import span
from tidemill.core.policy import Training
from tidemill.data.frame import TIME
from tidemill.errors import DataError


class Split(NamedTuple):
    """Three parts of one table; `validation` may be empty, and the search for parameters never sees `test`."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame


def kind_of(options: Training, *, timed: bool) -> Literal["time", "random", "group", "stratified"]:
    """How a policy splits: as it says, else by time where the rows have one (`timed`), else at random."""
    return options.split or ("time" if timed else "random")


def by_time(frame: pl.DataFrame, test: str, share: float, validation: float) -> Split:
    """The newest rows are the test; before them come the validation rows, and before those the training rows.

    `test` is a length of time; where it would take more than half of the rows, or none, the newest `share` of the
    rows is taken instead. `validation` is a share of the rows that are left.
    """
    if not frame.height:
        return _hold(Split(frame, frame, frame))
    ordered = frame.sort(TIME, maintain_order=True)
    times = ordered[TIME]
    newest = times[-1]
    early = int((times <= newest - span(test)).sum())
    if not 0.5 * len(times) <= early < len(times):
        early = _first_of_moment(times, int(len(times) * (1 - share)))
    middle = min(_first_of_moment(times, int(early * (1 - validation))), early)
    return _hold(Split(ordered[:middle], ordered[middle:early], ordered[early:]))


def at_random(frame: pl.DataFrame, share: float, validation: float, seed: int) -> Split:
    """Shuffled rows, for tables without a time; the same seed and rows give the same split."""
    order = np.random.default_rng(seed).permutation(frame.height)
    early = int(frame.height * (1 - share))
    middle = int(early * (1 - validation))
    return _hold(Split(frame[order[:middle]], frame[order[middle:early]], frame[order[early:]]))


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


def stratified(frame: pl.DataFrame, label: str, share: float, validation: float, seed: int) -> Split:
    """Shuffled rows with the same mixture of labels in every part, as nearly as whole rows allow.

    Raises
    ------
    DataError
        if there is no such column, or too few rows.
    """
    if label not in frame.columns:
        raise DataError(f"there is no column {label!r} to stratify by", f"the columns are: {', '.join(frame.columns)}")
    shuffled = frame[np.random.default_rng(seed).permutation(frame.height)]
    # The middle of each row's place within its label, from 0 to 1: a cut there cuts every label at the same share.
    place = ((pl.int_range(pl.len()) + 0.5) / pl.len()).over(label)
    places = shuffled.select(place.alias("place"))["place"]
    middle = (1 - share) * (1 - validation)
    train, test = places < middle, places >= 1 - share
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
