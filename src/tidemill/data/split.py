"""Splits rows into train, validation and test: by time where there is one, so that nobody learns from the future."""

from typing import NamedTuple

import numpy as np
import polars as pl

from tidemill.clock import span
from tidemill.data.frame import TIME
from tidemill.errors import DataError


class Split(NamedTuple):
    """Three parts of one table; `validation` may be empty, and the search for parameters never sees `test`."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame


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
