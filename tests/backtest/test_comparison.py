"""The loss difference of two policies and its interval."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from msgspec.structs import replace

from tests.web import kit
from tidemill.backtest.comparison import BacktestResult, PolicyResult, compute_difference

START = datetime(2013, 3, 1, tzinfo=UTC)


def outcome(name: str, losses: list[float], seed: int = 0) -> PolicyResult:
    weeks = [(START + timedelta(weeks=week), 100 + week, loss) for week, loss in enumerate(losses)]
    return replace(kit.outcome(name, 0.5), weeks=weeks, seed=seed)


def test_equal_weekly_differences_have_an_interval_of_zero_width() -> None:
    level = np.random.default_rng(0).uniform(0.3, 0.6, 40)
    found = compute_difference([outcome("loop", list(level - 0.01))], [outcome("static", list(level))])
    assert (found.mean, found.low, found.high) == pytest.approx((-0.01, -0.01, -0.01))
    assert found.weeks == 40


def test_weeks_of_both_signs_are_no_significant_difference() -> None:
    losses = [0.5 + 0.05 * (-1) ** week for week in range(40)]
    found = compute_difference([outcome("loop", losses)], [outcome("static", [0.5] * 40)])
    assert found.low < 0 < found.high


def test_a_lucky_seed_widens_the_interval() -> None:
    steady = [outcome("static", [0.5] * 40, seed) for seed in range(4)]
    same = compute_difference([outcome("loop", [0.49] * 40, seed) for seed in range(4)], steady)
    lucky = compute_difference([outcome("loop", [0.5 - 0.04 * (seed == 0)] * 40, seed) for seed in range(4)], steady)
    assert lucky.mean == pytest.approx(same.mean)
    assert lucky.high - lucky.low > same.high - same.low


def test_only_common_weeks_are_compared() -> None:
    found = compute_difference([outcome("loop", [0.4, 0.4, 9.0])], [outcome("static", [0.5, 0.5])])
    assert found.mean == pytest.approx(-0.1)


def test_policies_are_compared_seed_by_seed() -> None:
    loops = [outcome("loop", [0.4 + seed / 100] * 9, seed) for seed in range(3)]
    others = [outcome("static", [0.5] * 9, seed) for seed in range(3)]
    result: BacktestResult = replace(kit.comparison(loops[0], others[0]), repeats=[*loops[1:], *others[1:]])
    assert [round(comparison.difference.mean, 4) for comparison in result.seed_comparisons] == [-0.1, -0.09, -0.08]
    assert result.difference("static").mean == pytest.approx(-0.09)
