"""Judges the promotions of a replay in hindsight: both models on the rows that came after the decision."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tidemill.backtest.comparison import TrainingStory
from tidemill.backtest.sources import TimeIndex
from tidemill.core.columns import ROW_ID, TIME
from tidemill.core.model import Model
from tidemill.data.arrays import Floats
from tidemill.data.metrics import losses
from tidemill.ledger.releases import find_release
from tidemill.recipes.scoring import score_rows, select_learned

if TYPE_CHECKING:
    from tidemill.backtest.replay import Replay

_AFTER = timedelta(days=14)
_NEEDED_ROWS = 10


def count_wrong_promotions(replay: "Replay", stories: Sequence[TrainingStory]) -> int:
    """Return how many promoted models were worse than the champion before them by more than the margin of the canary.

    The two are compared on the labelled rows of the next 14 days. A promotion with fewer than ten of them counts as
    right.
    """
    return sum(_is_wrong(replay, story) for story in stories if story.ending == "promoted")


def _is_wrong(replay: "Replay", story: TrainingStory) -> bool:
    if story.settled is None or not story.release:
        return False
    routes = [route for route in replay.books.routes.find(model=replay.model.name) if route.since < story.settled]
    before = max(routes, key=lambda route: route.version).arm("champion") if routes else None
    if before is None:
        return False
    packages = replay.session.packages
    candidate = packages.load(find_release(replay.books, story.release).package)
    champion = packages.load(before.package)
    problem = replay.model.problem
    truth = replay.labels.select(pl.col("key").alias(ROW_ID), pl.col("value").alias(problem.label))
    rows = TimeIndex(replay.features.rows, TIME).select(story.settled, story.settled + _AFTER).drop(problem.label)
    rows = rows.join(truth, on=ROW_ID, how="inner", maintain_order="left")
    for model in (candidate, champion):
        rows = select_learned(model, rows, problem)
    if rows.height < _NEEDED_ROWS:
        return False
    excess = _compute_losses(replay, candidate, rows) - _compute_losses(replay, champion, rows)
    return bool(np.mean(excess) > replay.model.rollout.margin)


def _compute_losses(replay: "Replay", model: Model, rows: pl.DataFrame) -> Floats:
    problem = replay.model.problem
    return losses(*score_rows(model, rows, problem, replay.sources.definition(problem.source)))
