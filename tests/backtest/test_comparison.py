"""The difference of two policies, and what its interval says."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.web import kit
from tidemill.backtest.comparison import BacktestResult, PolicyResult, difference

START = datetime(2013, 3, 1, tzinfo=UTC)


def outcome(name: str, losses: list[float], seed: int = 0) -> PolicyResult:
    weeks = [(START + timedelta(weeks=week), 100 + week, loss) for week, loss in enumerate(losses)]
    made = kit.outcome(name, 0.5)
    return PolicyResult(
        **{field: getattr(made, field) for field in made.__struct_fields__} | {"weeks": weeks, "seed": seed}
    )


def test_a_difference_that_is_the_same_each_week_is_certain() -> None:
    level = np.random.default_rng(0).uniform(0.3, 0.6, 40)
    found = difference([outcome("loop", list(level - 0.01))], [outcome("static", list(level))])
    assert (found.mean, found.low, found.high) == pytest.approx((-0.01, -0.01, -0.01))
    assert found.weeks == 40


def test_weeks_that_go_either_way_tell_nothing_apart() -> None:
    either = [0.5 + 0.05 * (-1) ** week for week in range(40)]
    found = difference([outcome("loop", either)], [outcome("static", [0.5] * 40)])
    assert found.low < 0 < found.high


def test_a_lucky_seed_widens_the_interval() -> None:
    steady = [outcome("static", [0.5] * 40, seed) for seed in range(4)]
    same = difference([outcome("loop", [0.49] * 40, seed) for seed in range(4)], steady)
    lucky = difference([outcome("loop", [0.5 - 0.04 * (seed == 0)] * 40, seed) for seed in range(4)], steady)
    assert lucky.mean == pytest.approx(same.mean)
    assert lucky.high - lucky.low > same.high - same.low


def test_only_weeks_that_both_have_count() -> None:
    found = difference([outcome("loop", [0.4, 0.4, 9.0])], [outcome("static", [0.5, 0.5])])
    assert found.mean == pytest.approx(-0.1)


def test_trials_pair_the_policies_seed_by_seed() -> None:
    loops = [outcome("loop", [0.4 + seed / 100] * 9, seed) for seed in range(3)]
    others = [outcome("static", [0.5] * 9, seed) for seed in range(3)]
    made = kit.comparison(loops[0], others[0])
    repeats = [*loops[1:], *others[1:]]
    fields = {field: getattr(made, field) for field in made.__struct_fields__}
    found = BacktestResult(**fields | {"repeats": repeats})
    assert [round(trial.difference.mean, 4) for trial in found.trials] == [-0.1, -0.09, -0.08]
    assert found.difference("static").mean == pytest.approx(-0.09)
