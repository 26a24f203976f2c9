"""The gate before a release, and the watch over one in production."""

from typing import Any

import numpy as np
import pytest

from tidemill.checks.quality import Floats, gate, performance
from tidemill.core.check import Verdict
from tidemill.core.policy import Gate

RANDOM = np.random.default_rng(11)
ROWS = 2_000
BASELINE = RANDOM.gamma(2, 0.4, ROWS)
CHAMPION = BASELINE * 0.7
JFK = np.arange(ROWS) < 400


def judge(candidate: Floats, champion: Floats | None = CHAMPION, **policy: Any) -> Verdict:
    slices = {"origin=JFK": JFK, "origin=tiny": np.arange(ROWS) < 50}
    verdict = gate(candidate, BASELINE, champion, subject="late", policy=Gate(**policy), slices=slices)
    assert verdict.stops == (verdict.outcome == "fail")
    return verdict


def noise(scale: float) -> Floats:
    return np.random.default_rng(5).normal(0, scale, ROWS)


def test_the_first_model_must_beat_the_trivial_baseline() -> None:
    assert judge(CHAMPION, None).outcome == "pass"
    worse = judge(BASELINE + 0.01, None)
    assert worse.outcome == "fail"
    assert "not better than the trivial baseline" in worse.reason
    assert judge(BASELINE, None).outcome == "fail"
    assert judge(BASELINE * 0.99, None, baseline_margin=0.1).outcome == "fail"


def test_answers_that_are_no_numbers_fail() -> None:
    for bad in (np.nan, np.inf):
        candidate = CHAMPION.copy()
        candidate[3] = bad
        verdict = judge(candidate)
        assert verdict.outcome == "fail"
        assert "not finite on 1 rows" in verdict.reason


def test_a_better_model_and_the_same_model_pass() -> None:
    assert judge(CHAMPION * 0.9).outcome == "pass"
    assert judge(CHAMPION).outcome == "pass"
    better = judge(CHAMPION * 0.9)
    low, high = better.evidence["against_champion"]
    assert low < high < 0


def test_a_clearly_worse_model_fails() -> None:
    verdict = judge(CHAMPION + 0.05 + noise(0.1))
    assert verdict.outcome == "fail"
    assert "worse than the champion" in verdict.reason
    assert verdict.evidence["against_champion"][0] > 0


def test_a_margin_lets_a_slightly_worse_model_pass() -> None:
    candidate = CHAMPION + 0.02 + noise(0.05)
    assert judge(candidate).outcome == "fail"
    assert judge(candidate, margin=0.05).outcome == "pass"


def test_a_slice_that_suffers_fails_though_the_whole_is_better() -> None:
    candidate = CHAMPION * 0.8 + np.where(JFK, 0.3, 0.0) + noise(0.05)
    assert candidate.mean() < CHAMPION.mean()
    verdict = judge(candidate)
    assert verdict.outcome == "fail"
    assert "origin=JFK" in verdict.reason
    assert verdict.evidence["slice_rows"] == 400
    assert judge(candidate, slice_tolerance=0.5).outcome == "pass"
    assert judge(candidate, slice_minimum=401).outcome == "pass"


def test_equal_models_pass_as_often_as_a_margin_allows() -> None:
    """30 pairs of models of the same quality, a margin of two standard errors: nearly all pass."""
    passed = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        candidate = CHAMPION + random.normal(0, 0.2, ROWS)
        passed += judge(candidate, margin=0.01, slice_tolerance=0.1).outcome == "pass"
    assert passed >= 26


@pytest.mark.parametrize(
    ("metric", "now", "outcome"),
    [
        ("log_loss", 0.55, "pass"),
        ("log_loss", 0.61, "fail"),
        ("log_loss", 0.1, "pass"),
        ("roc_auc", 0.45, "pass"),
        ("roc_auc", 0.39, "fail"),
        ("roc_auc", 0.9, "pass"),
        ("log_loss", float("nan"), "fail"),
    ],
)
def test_performance_is_against_the_release(metric: str, now: float, outcome: str) -> None:
    verdict = performance(metric, now, 0.5, 300, subject="late", limit=0.1, action="rollback", minimum=200)
    assert (verdict.outcome, verdict.action) == (outcome, "rollback" if outcome == "fail" else "proceed")
    assert metric in verdict.reason


def test_performance_on_few_labels_is_undecided() -> None:
    verdict = performance("log_loss", 9.0, 0.5, 199, subject="late", limit=0.1, action="rollback", minimum=200)
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
