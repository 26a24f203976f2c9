"""Searching by tag and metric."""

import pytest

from tidemill.errors import InputError
from tidemill.evidence.search import fits


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("auc>0.6", True), ("auc >= 0.7", True), ("auc<0.7", False), ("auc=0.7", True), ("loss<1", False), ("", True)],
)
def test_metrics_compare(metric: str, expected: bool) -> None:
    assert fits({}, {"auc": 0.7}, "", metric) is expected


def test_both_must_fit() -> None:
    assert fits({"team": "blue"}, {"auc": 0.7}, "team=blue", "auc>0.5")
    assert not fits({"team": "blue"}, {"auc": 0.7}, "team=red", "auc>0.5")


def test_what_compares_nothing_says_how() -> None:
    with pytest.raises(InputError, match="compares no metric"):
        fits({}, {}, "", "auc is good")
