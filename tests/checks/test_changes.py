"""Detectors on the losses: they report an increase and no decrease, and their verdict has a limit."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tidemill.checks.changes import check_changes, find_increases
from tidemill.core.check import Verdict
from tidemill.core.watch import DETECTORS, DetectorName
from tidemill.data.arrays import Floats

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def make_losses(first: float, second: float, rows: int = 1000, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    return np.concatenate([random.exponential(first, rows), random.exponential(second, rows)])


def judge(detector: DetectorName, losses: Floats, limit: float = 0.1, minimum: int = 200) -> Verdict:
    times = [BEGIN + timedelta(minutes=index) for index in range(len(losses))]
    return check_changes(detector, losses, times, subject="m/1", limit=limit, action="retrain", minimum=minimum)


@pytest.mark.parametrize("detector", DETECTORS)
def test_an_increase_is_noticed_after_it_happened(detector: DetectorName) -> None:
    (first, *_) = [found for found in find_increases(make_losses(0.3, 0.9), detector) if found.row >= 1000]
    assert first.row < 1300
    assert first.after > first.before
    verdict = judge(detector, make_losses(0.3, 0.9))
    assert (verdict.check, verdict.outcome, verdict.action) == ("change", "fail", "retrain")
    assert verdict.evidence["rise"] > 0.4
    assert datetime.fromisoformat(verdict.evidence["noticed_at"]) > BEGIN


def test_a_decrease_is_no_increase() -> None:
    assert find_increases(make_losses(0.9, 0.3), "adwin") == []
    assert judge("adwin", make_losses(0.9, 0.3)).outcome == "pass"


def test_an_increase_within_the_limit_passes() -> None:
    verdict = judge("adwin", make_losses(0.3, 0.9), limit=2.0)
    assert (verdict.outcome, verdict.action) == ("pass", "proceed")
    assert "limit 2" in verdict.reason


@pytest.mark.parametrize("detector", DETECTORS)
def test_few_constant_or_no_losses_are_no_change(detector: DetectorName) -> None:
    assert judge(detector, np.ones(50)).outcome == "undecided"
    assert judge(detector, np.ones(500)).outcome == "pass"
    assert judge(detector, np.empty(0), minimum=1).outcome == "undecided"


def test_the_scale_of_the_losses_does_not_matter() -> None:
    losses = make_losses(0.3, 0.9)
    for detector in DETECTORS:
        assert [found.row for found in find_increases(losses, detector)] == [
            found.row for found in find_increases(1000 * losses, detector)
        ]
