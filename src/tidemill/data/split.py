"""Splits rows into train, validation and test rows: by time if they have one, so that the test rows are the newest."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.policy import Training
from tidemill.data.arrays import Ints
from tidemill.data.copies import are_copies
from tidemill.data.frame import TIME
from tidemill.errors import DataError

# If more rows than both limits are equal, the table has few distinct rows: they are not copies of one row.
_MAX_COPIES = 20
_MAX_COPY_SHARE = 0.01


class Split(NamedTuple):
    """Three parts of one table; `validation` may be empty, and the search for parameters never uses `test`."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame


def choose_split_kind(options: Training, *, timed: bool) -> Literal["time", "random", "group", "stratified"]:
    """Return how to split: as the policy sets it, otherwise by time if the rows have one (`timed`), or at random."""
    return options.split or ("time" if timed else "random")


def split_by_time(frame: pl.DataFrame, test: str, share: float, validation: float, minimum: int = 0) -> Split:
    """Split by time: the training rows are the oldest, then the validation rows, and the test rows are the newest.

    `test` is a duration. If it contains more than half of the rows, or none, the newest `share` of the rows is the
    test instead. If it contains fewer than `minimum` rows, older rows are added until it has `minimum` rows, or
    `share`. `validation` is a share of the remaining rows.
    """
    if not frame.height:
        return _require_rows(Split(frame, frame, frame))
    ordered = frame.sort(TIME, maintain_order=True)
    times = ordered[TIME]
    newest = times[-1]
    early = int((times <= newest - parse_duration(test)).sum())
    if not 0.5 * len(times) <= early < len(times):
        early = _move_cut_to_time(times, int(len(times) * (1 - share)))
    if len(times) - early < (needed := min(minimum, int(len(times) * share))):
        early = _move_cut_to_time(times, len(times) - needed)
    middle = min(_move_cut_to_time(times, int(early * (1 - validation))), early)
    return _require_rows(Split(ordered[:middle], ordered[middle:early], ordered[early:]))


def split_at_random(
    frame: pl.DataFrame,
    share: float,
    validation: float,
    seed: int,
    alike: Sequence[str] | None = None,
    label: str = "",
) -> Split:
    """Split shuffled rows, for tables without a time; the same seed and rows have the same split.

    Copies stay on one side: otherwise a model would be tested on its training rows. Copies are rows that are equal in
    the columns `alike` (None: in all columns but the `label`) and that are not equal by chance, see `are_copies`. A
    group of more than 20 equal rows that is also more than 1 % of all rows is split.
    """
    shuffled, first = group_equal_rows(frame, seed, alike, label)
    early = _move_cut_to_equal_rows(first, int(frame.height * (1 - share)))
    middle = min(_move_cut_to_equal_rows(first, int(early * (1 - validation))), early)
    return _require_rows(Split(shuffled[:middle], shuffled[middle:early], shuffled[early:]))


def group_equal_rows(
    frame: pl.DataFrame, seed: int, alike: Sequence[str] | None, label: str = ""
) -> tuple[pl.DataFrame, Ints]:
    """Return shuffled rows with copies next to each other, and for each row the index of its first copy."""
    shuffled = frame[np.random.default_rng(seed).permutation(frame.height)]
    schema = frame.schema
    names = frame.columns if alike is None else [name for name in alike if name in schema]
    compared = [name for name in dict.fromkeys(names) if not schema[name].is_nested() and name != label]
    if not compared or not frame.height:
        return shuffled, np.arange(frame.height)
    # One hash of all columns, as a window over thousands of columns is slow; rows of equal hashes stay on one side.
    inputs = shuffled.select(compared)
    hashed = inputs.hash_rows(seed=0)
    if not are_copies(inputs, hashed, shuffled[label] if label in schema else None):
        return shuffled, np.arange(frame.height)
    hashes = pl.DataFrame({"hash": hashed}).with_row_index("row")
    row = pl.col("row")
    kept = pl.when(pl.len().over("hash") <= max(_MAX_COPIES, frame.height * _MAX_COPY_SHARE))
    first = hashes.select(kept.then(row.min().over("hash")).otherwise(row).cast(pl.Int64))
    firsts = first.to_series().to_numpy()
    order = np.argsort(firsts, kind="stable")
    return shuffled[order], firsts[order]


def _move_cut_to_equal_rows(first: Ints, cut: int) -> int:
    """Move a cut inside a block of equal rows to its nearer end, unless one side would be empty."""
    if not 0 < cut < len(first):
        return cut
    begin, end = (int(np.searchsorted(first, first[cut], side)) for side in ("left", "right"))
    inside = [end_cut for end_cut in (begin, end) if 0 < end_cut < len(first)]
    return min(inside, key=lambda end_cut: abs(end_cut - cut), default=cut)


def split_by_group(frame: pl.DataFrame, group: str, share: float, validation: float, seed: int) -> Split:
    """Split by group (a patient, a machine): all rows of a group are on one side, so the test has unseen groups.

    The groups are shuffled by the seed; groups larger than the test's share come last. The cut is at the group that is
    nearest to the share, so a part with several groups differs from its share by at most half a group. With two groups
    there are no validation rows. All rows without a group are one group.

    Raises
    ------
    DataError
        if there is no such column, or fewer than two groups.
    """
    if group not in frame.columns:
        raise DataError(f"there is no column {group!r} to group by", f"the columns are: {', '.join(frame.columns)}")
    groups = frame.select(pl.col(group).alias("group")).group_by("group").len("rows").sort("group", nulls_last=True)
    if groups.height < 2:
        raise DataError(
            f"column {group!r} has fewer than two values in {frame.height} rows: they cannot be split by it",
            'use rows of more groups, or another split: [training] split = "random"',
        )
    groups = groups[np.random.default_rng(seed).permutation(groups.height)]
    groups = groups.sort(pl.max_horizontal("rows", frame.height * share), maintain_order=True)
    test = _count_groups(groups["rows"], share)
    remaining = groups[test:]
    validation_groups = _count_groups(remaining["rows"], validation) if validation and remaining.height > 1 else 0
    parts = (remaining[validation_groups:], remaining[:validation_groups], groups[:test])
    return _require_rows(
        Split(
            *(
                frame.join(part, left_on=group, right_on="group", how="semi", nulls_equal=True, maintain_order="left")
                for part in parts
            )
        )
    )


def split_stratified(
    frame: pl.DataFrame, label: str, share: float, validation: float, seed: int, alike: Sequence[str] | None = None
) -> Split:
    """Split shuffled rows so that every part has the same shares of the labels, as far as whole rows permit.

    Copies stay together, as in `split_at_random`.

    Raises
    ------
    DataError
        if there is no such column, or too few rows.
    """
    if label not in frame.columns:
        raise DataError(f"there is no column {label!r} to stratify by", f"the columns are: {', '.join(frame.columns)}")
    shuffled, first = group_equal_rows(frame, seed, alike, label)
    # The relative position of each row among the rows of its label (0 to 1): a cut there cuts all labels alike.
    position = ((pl.int_range(pl.len()) + 0.5) / pl.len()).over(label)
    positions = shuffled.select(position.alias("position"), pl.Series("first", first))
    group_positions = positions.select(pl.col("position").mean().over("first"))["position"]
    middle = (1 - share) * (1 - validation)
    train, test = group_positions < middle, group_positions >= 1 - share
    return _require_rows(Split(shuffled.filter(train), shuffled.filter(~train & ~test), shuffled.filter(test)))


def _count_groups(sizes: pl.Series, share: float) -> int:
    """Return the number of groups, at least one, whose rows are nearest to a share of all rows."""
    middles = (sizes.cum_sum() - sizes / 2) / sizes.sum()
    return max(1, int((middles < share).sum()))


def _move_cut_to_time(times: pl.Series, cut: int) -> int:
    """Move a cut to the first row with its time, or past the first time: rows with the same time stay together."""
    cut = min(max(cut, 0), len(times) - 1)
    first = int(times.search_sorted(times[cut], "left"))
    if first > 0:
        return first
    after = int(times.search_sorted(times[cut], "right"))
    return after if after < len(times) else cut


def _require_rows(split: Split) -> Split:
    if not split.train.height or not split.test.height:
        raise DataError(
            f"too few rows to split: {split.train.height} to train on, {split.test.height} to test on",
            "use more rows, or set a smaller test_share under [training]",
        )
    return split
