"""Rules of the literature as policies: when each of them trains."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.backtest.test_replay import make_shop
from tidemill.backtest.comparison import Period, PolicyResult
from tidemill.backtest.policies import train_by_rule
from tidemill.backtest.replay import Replay
from tidemill.backtest.requests import compute_regret
from tidemill.backtest.rivals.cara import build_cara_policy, fit_threshold
from tidemill.backtest.rivals.cost import build_cost_policy, choose_days
from tidemill.backtest.rivals.regret import build_regret_policy
from tidemill.backtest.standards import build_standard
from tidemill.backtest.summary import summarize
from tidemill.core.backtest import Rule
from tidemill.core.policy import Policy
from tidemill.errors import InputError
from tidemill.project.project import Project

PERIOD = Period(datetime(2026, 2, 17, tzinfo=UTC), datetime(2026, 2, 25, tzinfo=UTC))
TURN = datetime(2026, 2, 20, tzinfo=UTC)


def report_nothing(*_: object) -> None:
    """Ignore progress."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose labels are inverted on 20 February."""
    return make_shop(tmp_path_factory.mktemp("rivals") / "shop", is_inverted=True)


def replay(shop: Project, policy: Policy, folder: Path) -> PolicyResult:
    found = Replay(shop, policy, "shop", PERIOD, folder / "replay", report_nothing)
    found.run()
    return summarize("rival", found, 0.0)


def with_cost(policy: Policy, cost: float) -> Policy:
    model = policy.models["shop"]
    return replace(policy, models={"shop": replace(model, problem=replace(model.problem, cost_of_training=cost))})


def test_regret_trains_when_the_loss_is_above_that_at_release_and_not_before(shop: Project, tmp_path: Path) -> None:
    result = replay(shop, build_regret_policy(with_cost(shop.policy, 30.0), "shop"), tmp_path)
    trained = [story.started for story in result.stories[1:]]
    assert 1 <= len(trained) <= 5
    assert min(trained) > TURN, "until then the model was as good as at its release"
    assert result.promotions == result.rollbacks == 0, "each model is released at once"


@pytest.mark.parametrize(("limit", "trainings"), [(1e9, 0), (0.0, 7)])
def test_a_limit_that_is_never_or_always_reached(shop: Project, tmp_path: Path, limit: float, trainings: int) -> None:
    result = replay(shop, train_by_rule(shop.policy, Rule(name="cara", limit=limit)), tmp_path)
    assert result.trainings - 1 == trainings


def test_cara_fits_its_threshold_on_the_rows_before_the_period(shop: Project) -> None:
    period = Period(datetime(2026, 2, 8, tzinfo=UTC), PERIOD.end)
    built = build_cara_policy(shop, with_cost(shop.policy, 5.0), "shop", period, report_nothing)
    rule = built.backtest.rule
    assert rule is not None
    assert (rule.name, rule.limit > 0) == ("cara", True)
    model = built.models["shop"]
    assert (model.gate.enabled, model.gate.measure, model.rollout.canary) == (False, True, False)
    early = replace_period(period, datetime(2026, 1, 30, tzinfo=UTC))
    with pytest.raises(InputError, match="too few for the threshold of cara"):
        build_cara_policy(shop, with_cost(shop.policy, 5.0), "shop", early, report_nothing)


def replace_period(period: Period, begin: datetime) -> Period:
    return Period(begin, period.end)


@pytest.mark.parametrize("name", ["regret", "cara"])
def test_a_training_that_costs_nothing_is_an_error_with_a_cure(shop: Project, name: str) -> None:
    with pytest.raises(InputError, match="against the cost of a training, which is 0") as refused:
        build_standard(name, shop, with_cost(shop.policy, 0.0), "shop", PERIOD, report_nothing)
    assert "cost_of_training in [problem]" in refused.value.cure


def test_cost_trains_as_often_as_the_first_policy_and_more_often_where_more_rows_arrive(shop: Project) -> None:
    busy = [PERIOD.begin + timedelta(hours=hour / 10) for hour in range(24 * 10 * 5)]
    quiet = [PERIOD.begin + timedelta(days=5, hours=hour) for hour in range(24 * 16)]
    period = Period(PERIOD.begin, PERIOD.begin + timedelta(days=21))
    built = build_cost_policy(shop.policy, period, pl.Series([*busy, *quiet]), 7)
    times = [datetime.fromisoformat(firing.at) for firing in built.backtest.firings]
    assert 4 <= len(times) <= 6
    gaps = [later - earlier for earlier, later in zip([PERIOD.begin, *times], times, strict=False)]
    assert gaps[0] < gaps[-1]
    assert build_cost_policy(shop.policy, period, pl.Series([*busy, *quiet]), 1).backtest.firings == ()


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40), st.integers(0, 20))
def test_the_days_of_the_cost_rule_are_inside_the_period_and_at_most_as_many_as_asked(
    rows: list[int], trainings: int
) -> None:
    days = choose_days(np.array(rows, float), trainings)
    assert len(days) <= trainings
    assert days == sorted(set(days))
    assert all(0 < day < len(rows) for day in days)


def test_regret_is_the_loss_above_the_expected_one() -> None:
    rows, losses = np.array([10.0, 20.0, 5.0]), np.array([0.5, 0.3, 0.1])
    assert compute_regret(rows, losses, 0.2) == pytest.approx(10 * 0.3 + 20 * 0.1)
    assert compute_regret(rows, losses, 0.9) == 0.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0, 100))
def test_the_threshold_of_cara_is_the_age_that_costs_least_in_a_week(weeks: list[float], cost: float) -> None:
    threshold = fit_threshold(weeks, cost)
    sums = np.cumsum(weeks)
    rates = (cost + sums) / np.arange(1, len(weeks) + 1)
    assert threshold == pytest.approx(sums[int(np.argmin(rates))])
