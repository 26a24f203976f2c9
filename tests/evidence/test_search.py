"""Searching by words, tag and metric."""

import pytest
from msgspec.structs import replace

from tidemill.core.metric_filter import MetricFilter
from tidemill.errors import InputError
from tidemill.evidence.search import metric_filter, search, tag_of
from tidemill.ledger.ledger import Ledger
from tidemill.testing.ledger import identifier, run


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger("sqlite://")
    ledger.runs.add(replace(run(1, metrics={"auc": 0.7, "loss@test": 1e-3}), tags={"team": "blue"}))
    ledger.runs.add(replace(run(2, metrics={"auc": 0.9}), tags={"team": "red"}))
    ledger.runs.add(run(3))
    return ledger


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("auc>0.6", [2, 1]),
        ("auc >= 0.7", [2, 1]),
        ("auc<0.7", []),
        ("auc=0.7", [1]),
        ("auc <= .9", [2, 1]),
        ("loss@test<2e-3", [1]),
        ("auc>-1e300", [2, 1]),
        ("loss<1", []),
        ("", [3, 2, 1]),
    ],
)
def test_metrics_compare(ledger: Ledger, metric: str, expected: list[int]) -> None:
    assert [one.id for one in search(ledger.runs, metric=metric)] == [identifier(place) for place in expected]


def test_all_that_is_asked_must_fit(ledger: Ledger) -> None:
    assert [one.id for one in search(ledger.runs, tag="team=blue", metric="auc>0.5")] == [identifier(1)]
    assert search(ledger.runs, tag="team=red", metric="auc<0.5") == []
    assert search(ledger.runs, text="training", tag="team=red", metric="auc>0.5", state="failed") == []
    assert search(ledger.runs, tag="team=blu") == []


def test_a_page_goes_on_where_the_last_one_ended(ledger: Ledger) -> None:
    page = search(ledger.runs, text="train", limit=2)
    assert [one.id for one in search(ledger.runs, text="train", limit=2, before=page[-1].id)] == [identifier(1)]


@pytest.mark.parametrize("metric", ["auc is good", "auc", "<0.5", "auc<", "auc<abc", "auc<1.2.3", "auc<nan", "auc==1"])
def test_what_compares_nothing_says_how(metric: str) -> None:
    with pytest.raises(InputError, match="compares no metric") as wrong:
        metric_filter(metric)
    assert "test_log_loss<0.5" in wrong.value.cure


@pytest.mark.parametrize("tag", ["blue", "=blue", " "])
def test_what_is_no_tag_says_how(tag: str) -> None:
    with pytest.raises(InputError, match="no tag"):
        tag_of(tag)


def test_a_name_may_have_any_letters() -> None:
    assert metric_filter("verlust_höhe>=1") == MetricFilter("verlust_höhe", ">=", 1.0)
    assert tag_of("größe=a=b") == "größe=a=b"
