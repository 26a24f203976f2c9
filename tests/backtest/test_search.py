"""The search of `backtest --tune`, on invented losses: what it finds, where it stops, and what it leaves out."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.backtest.comparison import Period, PolicyResult, TimelineEntry
from tidemill.backtest.costs import Cost, CostRates
from tidemill.backtest.evaluations import Evaluations
from tidemill.backtest.knobs import Space
from tidemill.backtest.search import Evaluation, Search, find_front, measure_effort
from tidemill.core.policy import Policy
from tidemill.errors import TidemillError

_DAY = timedelta(days=1)
_PERIOD = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 20, tzinfo=UTC))
_RATES = CostRates(error=1.0, training=1.0, false_alarm=0.0, degraded_hour=0.0, baseline=1.0)
_CRONS = {"0 6 * * *": 1, "0 6 * * 1": 7, "0 6 1,15 * *": 15, "0 6 1 * *": 30, "0 6 1 1,4,7,10 *": 91}


def make_result(loss: float, trainings: int, name: str = "") -> PolicyResult:
    weeks = [(_PERIOD.begin + number * 7 * _DAY, 100, loss) for number in range(28)]
    return PolicyResult(
        name=name,
        predictions=2800,
        labels=2800,
        runs={},
        verdicts={},
        promotions=0,
        rollbacks=0,
        stops=0,
        trainings=trainings,
        training_seconds=0.0,
        seconds=0.0,
        metrics={"log_loss": loss},
        weeks=weeks,
        releases=[],
        timeline=[],
    )


class FakeEvaluations(Evaluations):
    """Invented results in the place of replays."""

    def __init__(self, judge: Callable[[Policy], PolicyResult | TidemillError]) -> None:
        self._judge = judge
        self.replayed: list[Policy] = []

    def replay(self, policies: Mapping[str, Policy], period: Period) -> dict[str, PolicyResult | TidemillError]:
        assert period is _PERIOD
        self.replayed += policies.values()
        return {name: self._judge(policy) for name, policy in policies.items()}

    def has(self, policy: Policy, period: Period) -> bool:
        return period is not _PERIOD and policy in self.replayed


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return make_project(tmp_path_factory.mktemp("search") / "shop").policy


def judge_policy(policy: Policy) -> PolicyResult:
    """Rows of 84 days, a training every week and a cooldown of three days are best."""
    model = policy.models["shop"]
    window = model.training.window
    excess = {"84d": 0.0, "56d": 0.05, "182d": 0.05}.get(window or "", 0.2)
    crons = [trigger for trigger in policy.triggers if trigger.cron in _CRONS]
    every = min((_CRONS[trigger.cron] for trigger in crons), default=60)
    if policy.backtest.firings:
        every = max(1, 200 // len(policy.backtest.firings))
    cooldown = next((trigger.cooldown for trigger in policy.triggers if trigger.on == "verdict"), "7d")
    excess += 0.002 * every + (0.0 if cooldown == "3d" else 0.01)
    return make_result(0.4 + excess, 200 // every)


def run_search(
    policy: Policy, judge: Callable[[Policy], PolicyResult | TidemillError], seconds: float = 60.0
) -> tuple[Search, Evaluation, FakeEvaluations]:
    evaluations = FakeEvaluations(judge)
    space = Space(policy, "shop", history=200 * _DAY, period=200 * _DAY, delivery=_DAY)
    search = Search(space, evaluations, _PERIOD, _RATES, seconds, lambda _: None)
    return search, search.run(), evaluations


def test_the_search_finds_window_rhythm_and_cooldown(policy: Policy) -> None:
    search, chosen, evaluations = run_search(policy, judge_policy)
    assert chosen.settings == {"window": "84d", "calendar": "weekly", "cooldown": "3d"}
    assert not chosen.is_scan
    assert search.evaluated[0].settings == {}
    assert len(evaluations.replayed) < 45
    assert search.is_complete


def test_the_search_takes_the_same_way_again(policy: Policy) -> None:
    first, second = run_search(policy, judge_policy)[2], run_search(policy, judge_policy)[2]
    assert first.replayed == second.replayed


def test_no_settings_are_chosen_where_nothing_has_an_effect(policy: Policy) -> None:
    chosen = run_search(policy, lambda _: make_result(0.5, 3))[1]
    assert chosen.settings == {}


def test_expensive_trainings_keep_a_rare_rhythm(policy: Policy) -> None:
    def judge(tried: Policy) -> PolicyResult:
        result = judge_policy(tried)
        return replace(result, trainings=result.trainings * 1000)

    assert run_search(policy, judge)[1].settings.get("calendar") in (None, "quarterly")


def test_without_time_only_the_written_policy_is_replayed(policy: Policy) -> None:
    search, chosen, evaluations = run_search(policy, judge_policy, seconds=0.0)
    assert chosen.settings == {}
    assert evaluations.replayed == [policy]
    assert not search.is_complete


def test_a_policy_that_fails_is_left_out_with_its_reason(policy: Policy) -> None:
    def judge(tried: Policy) -> PolicyResult | TidemillError:
        if tried.models["shop"].training.window == "84d":
            return TidemillError("there are too few rows", "use more")
        if tried.models["shop"].training.window == "56d":
            failure = TimelineEntry(time=_PERIOD.begin, kind="failure", subject="training", reason="no rows")
            return replace(judge_policy(tried), timeline=[failure])
        return judge_policy(tried)

    search, chosen, _ = run_search(policy, judge)
    assert chosen.settings.get("window") not in ("84d", "56d")
    assert any("too few rows" in reason for reason in search.failed.values())
    assert any("no rows" in reason for reason in search.failed.values())


def test_a_written_policy_that_fails_ends_the_search(policy: Policy) -> None:
    with pytest.raises(TidemillError, match="as it is written cannot be replayed: the model is broken"):
        run_search(policy, lambda _: TidemillError("the model is broken", "fix it"))


def make_evaluation(loss: float, trainings: int, cost: float) -> Evaluation:
    return Evaluation(
        settings={},
        is_scan=False,
        loss=loss,
        trainings=trainings,
        cost=Cost(loss=0, trainings=cost, false_alarms=0, degraded=0, count_of_false_alarms=0, degraded_hours=0),
        result=make_result(loss, trainings),
    )


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_no_policy_is_better_in_both_than_one_of_the_front(pairs: list[tuple[int, int]]) -> None:
    evaluations = [make_evaluation(loss / 10, trainings, float(trainings)) for loss, trainings in pairs]
    front = find_front(evaluations)
    assert front
    for member in front:
        assert not any(
            other.loss <= member.loss
            and measure_effort(other) <= measure_effort(member)
            and (other.loss, measure_effort(other)) != (member.loss, measure_effort(member))
            for other in evaluations
        )
    assert min(found.loss for found in evaluations) in {member.loss for member in front}
