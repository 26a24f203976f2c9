"""Requests trainings in a replay by a rule of `rivals`, once a day, from the labelled rows of the champion."""

from datetime import datetime

import numpy as np
import polars as pl

from tidemill.core.backtest import Rule
from tidemill.core.model import Model
from tidemill.core.run import select_test_metrics
from tidemill.data.arrays import Floats
from tidemill.data.metrics import losses
from tidemill.flow.session import Session
from tidemill.monitoring.windows import extract_scores, is_labelled, read_window
from tidemill.registry.routing import find_current_route


def compute_regret(rows: Floats, losses: Floats, expected: float) -> float:
    """Return the sum over days of the loss above that which was expected; a day that was better counts as 0.

    `rows` are the labelled rows of each day, `losses` their mean losses, and `expected` is the loss at release.

    >>> compute_regret(np.array([10.0, 10]), np.array([0.5, 0.2]), 0.25)
    2.5
    """
    return float(np.maximum(rows * (losses - expected), 0.0).sum())


class Requester:
    """The rule of a policy: whether a training is due.

    `baseline` is the loss of a prediction without a model.
    """

    def __init__(self, rule: Rule, session: Session, model: str, baseline: float) -> None:
        self._rule, self._session, self._model, self._baseline = rule, session, model, baseline

    def is_due(self, now: datetime) -> bool:
        """Return whether the labelled rows that the champion has served by now cost as much as the rule's limit."""
        workspace = self._session.workspace
        route = find_current_route(workspace.ledger, workspace.environment, self._model)
        champion = route.arm("champion") if route else None
        if route is None or champion is None:
            return False
        served = read_window(workspace.journal, self._model, route.since, now, champion.release)
        return self._compute_cost(served, self._session.packages.load(champion.package)) >= self._rule.limit

    def _compute_cost(self, served: pl.DataFrame, model: Model) -> float:
        """Return the cost in predictions that are as wrong as those without a model."""
        signature = model.manifest.signature
        labelled = served.filter(is_labelled(served, signature)) if served.width else served
        if labelled.is_empty():
            return 0.0
        truth, scores = extract_scores(labelled, signature)
        loss = np.asarray(losses(truth, scores), float)
        if self._rule.name == "cara":
            return float(loss.sum()) / self._baseline
        by_day = pl.DataFrame({"day": labelled["time"].dt.date(), "loss": loss}).group_by("day")
        days = by_day.agg(pl.len().cast(pl.Float64).alias("rows"), pl.col("loss").mean())
        metrics = select_test_metrics(model.manifest.metrics)
        expected = metrics["log_loss"] if "log_loss" in metrics else metrics["rmse"] ** 2
        return compute_regret(days["rows"].to_numpy(), days["loss"].to_numpy(), expected) / self._baseline
