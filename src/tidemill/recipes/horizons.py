"""Chooses the rows that a candidate learns before it is measured, so that it is not staler than the champion.

A release is fitted on all rows up to its day. So a champion may have learned rows that are test rows now. A candidate
that has not learned them would be compared as older than it will be in production, and lose for its age.
"""

from datetime import datetime

import polars as pl

from tidemill.checks.comparison import LEAST_COMPARED
from tidemill.core.columns import TIME
from tidemill.core.model import Model
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy, Training
from tidemill.core.resources import Sources
from tidemill.data.split import choose_split_kind

_ENOUGH_COMPARED = 200  # the newer half has at least so many rows, if so many are new to the champion


def uses_validation(options: Training) -> bool:
    """Return whether a training chooses anything on validation rows: its number of rounds, or its parameters."""
    stops_early = options.early_stopping > 0 and options.estimator == "lightgbm"
    return options.validation > 0 and (stops_early or options.search is not None)


@step
def find_horizons(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    test: pl.DataFrame,
    champion: Model | None,
    policy: ModelPolicy,
    sources: Sources,
) -> tuple[datetime | None, datetime | None]:
    """Return the newest event time to learn for the test, and for the comparison with the champion.

    The first one is before the test rows. The second one may be among them: of the rows that are new to the champion,
    the candidate learns the older half and is compared on the newer half. A comparison on all of them would be one of
    two models that have learned the same rows, although the release learns newer ones than the champion. Both times are
    equal if more than half of the rows that are new to the champion are older than the test, or if at most 50 rows are
    new to it: too few to compare. Without a split by time, both are None.
    """
    source = sources.definition(policy.problem.source)
    if choose_split_kind(policy.training, timed=bool(source.time)) != "time" or not source.time:
        return None, None
    older = pl.concat([rows.select(TIME) for rows in (train, validation)])[TIME]
    learned = older.max()
    assert isinstance(learned, datetime)
    champion_newest = champion.manifest.trained_on.trained_until if champion is not None else None
    if champion_newest is None:
        return learned, learned
    new = pl.concat([older, test[TIME]]).sort()
    new = new.filter(new > champion_newest)
    if len(new) < LEAST_COMPARED:
        return learned, learned
    compared = max(len(new) // 2, min(len(new), _ENOUGH_COMPARED))
    first = new[-compared]
    cut = new.filter(new < first).max() if compared < len(new) else champion_newest
    return learned, max(learned, cut if isinstance(cut, datetime) else champion_newest)


@step(transient=True)
def select_learned_rows(
    train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame, horizon: datetime | None
) -> pl.DataFrame:
    """Return the training and validation rows, and the test rows up to a horizon."""
    parts = [train, validation, *([] if horizon is None else [test.filter(pl.col(TIME) <= horizon)])]
    return pl.concat(part for part in parts if part.height)
