"""The watch over a model in production."""

from typing import Any

import pytest

from tidemill.checks.quality import performance


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


def test_what_chance_may_have_done_is_undecided() -> None:
    bounds: dict[str, Any] = {"subject": "late", "limit": 0.1, "action": "rollback", "minimum": 200, "reach": 0.05}
    undecided = performance("log_loss", 0.64, 0.5, 300, **bounds)
    assert (undecided.outcome, undecided.action) == ("undecided", "hold")
    assert "not significant (± 0.0500)" in undecided.reason
    assert performance("log_loss", 0.66, 0.5, 300, **bounds).outcome == "fail"
    assert performance("log_loss", 0.59, 0.5, 300, **bounds).outcome == "pass"
    assert performance("log_loss", float("nan"), 0.5, 300, **bounds).outcome == "fail"


def test_performance_on_few_labels_is_undecided() -> None:
    verdict = performance("log_loss", 9.0, 0.5, 199, subject="late", limit=0.1, action="rollback", minimum=200)
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
