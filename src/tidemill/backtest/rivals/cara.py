"""Cara: train when the staleness cost of a model, in sum since its training, reaches a threshold fitted before."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill.backtest.compare import CompareProgress, replay_each
from tidemill.backtest.comparison import Period, PolicyResult
from tidemill.backtest.costs import find_rates
from tidemill.backtest.policies import build_static_policy, train_at, train_by_rule
from tidemill.backtest.rivals.costs import require_cost
from tidemill.compose.session import open_history
from tidemill.core.backtest import Rule
from tidemill.core.policy import Policy
from tidemill.data.frame import TIME
from tidemill.errors import InputError, TidemillError
from tidemill.project.project import Project

_TRAINED = 1 / 3
_NEEDED_WEEKS = 3


def build_cara_policy(
    project: Project, policy: Policy, model: str, period: Period, report_progress: CompareProgress
) -> Policy:
    """Return a policy that trains when the staleness cost since the last training reaches a threshold.

    This is the variant with a cumulative threshold of Cara (Mahadevan & Mathioudakis 2024). The staleness cost of a
    model is its loss on the rows that it serves; it becomes known with their labels. The threshold is fitted offline
    on the rows before the period. The paper trains a model at each step of them; here one model, trained on their first
    third, serves the others, and later models are assumed to become stale as it does.

    Raises
    ------
    InputError
        if `cost_of_training` is 0, or if the rows before the period are too few.
    """
    cost, chosen = require_cost(policy, model, "cara"), policy.models[model]
    rows = open_history(project).source_history(chosen.problem.source)
    first = rows[TIME].min()
    assert isinstance(first, datetime)
    offline = Period(first + (period.begin - first) * _TRAINED, period.begin)
    if offline.end - offline.begin < timedelta(weeks=_NEEDED_WEEKS):
        raise _create_error(period, f"{(offline.end - offline.begin).days} days")
    with TemporaryDirectory(prefix="tidemill-cara-") as folder:
        plan = {"offline": train_at(build_static_policy(policy), [])}
        result = replay_each(project, plan, model, offline, Path(folder), report_progress)["offline"]
    if isinstance(result, TidemillError) or len(result.weeks) < _NEEDED_WEEKS:
        raise _create_error(period, getattr(result, "problem", "too few weeks have labels"))
    known = rows.filter(rows[TIME] < period.begin)[chosen.problem.label]
    threshold = fit_threshold(_list_costs(result, find_rates(chosen.problem, known).baseline), cost)
    return train_by_rule(policy, Rule(name="cara", limit=threshold))


def _create_error(period: Period, reason: str) -> InputError:
    return InputError(
        f"the rows before {period.begin:%Y-%m-%d} are too few for the threshold of cara: {reason}",
        "choose a later --from, or omit --against cara",
    )


def fit_threshold(weeks: Sequence[float], cost: float) -> float:
    """Return the staleness cost at the age at which trainings, one after the other, cost least in a week.

    `weeks` are the staleness costs of a model in the weeks after its training, and `cost` is that of a training.

    >>> fit_threshold([1.0, 1.0, 4.0, 8.0], 3.0)
    2.0
    """
    sums = [sum(weeks[: age + 1]) for age in range(len(weeks))]
    best = min(range(len(weeks)), key=lambda age: (cost + sums[age]) / (age + 1))
    return sums[best]


def _list_costs(result: PolicyResult, baseline: float) -> list[float]:
    """Return the loss of each week, in predictions that are as wrong as those without a model."""
    weeks = [rows * loss / baseline for _, rows, loss in result.weeks]
    return weeks if result.weeks[-1][0] - result.weeks[0][0] >= timedelta(weeks=len(weeks)) else weeks[:-1]
