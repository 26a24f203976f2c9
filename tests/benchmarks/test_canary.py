"""The simulated canaries of the benchmark: their truth, their looks and their intervals."""

import numpy as np
import pytest

from benchmarks._loss_series import LossSeries
from benchmarks.canary import (
    SCENARIOS,
    Case,
    choose_margin,
    find_fixed_size,
    find_interval,
    judge_by_tidemill,
    make_canary,
)

MARGIN = choose_margin(0.3, 20)


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson() -> None:
    assert list(find_interval(0, 500)) == pytest.approx([0.0, 0.00735], abs=1e-5)
    assert list(find_interval(10, 200)) == pytest.approx([0.0242, 0.0900], abs=1e-4)
    assert find_interval(5, 5)[1] == 1.0


def test_a_challenger_is_worse_by_the_margin_over_its_stream_or_over_its_canary() -> None:
    random = np.random.default_rng(1)
    drifting = np.linspace(-1, 1, 4000) + random.normal(0, 0.3, 4000)
    case = Case("stream", 20.0, 0.1, LossSeries("stream", np.ones(4000), 1 + drifting, 20.0))
    whole, own = SCENARIOS[0], SCENARIOS[1]
    assert (whole.in_canary, own.in_canary) == (False, True)
    means = []
    for scenario in (whole, own):
        canaries = [make_canary(case, scenario, np.random.default_rng(seed)) for seed in range(20)]
        means.append([float((canary.challenger - canary.champion).mean()) for canary in canaries])
    assert np.std(means[0]) > 0.3
    assert np.allclose(means[1], 0.1, atol=0.03)


def test_a_slow_challenger_is_rolled_back_at_the_first_look_and_an_equal_one_is_promoted() -> None:
    case = Case("independent", 20.0, MARGIN)
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    equal = make_canary(case, by_name["equal"], np.random.default_rng(2))
    assert judge_by_tidemill(equal, slow=True)[::2] == ("rollback", 1)
    assert judge_by_tidemill(equal, slow=False).action == "promote"
    assert 30 <= find_fixed_size(equal) <= 45
