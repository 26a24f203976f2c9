"""Search by words, tag and metric."""

import pytest
from msgspec.structs import replace

from tidemill.core.metric_filter import MetricFilter
from tidemill.errors import InputError
from tidemill.evidence.search import parse_metric_filter, parse_tag, search
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
def test_metrics_are_compared_with_numbers(ledger: Ledger, metric: str, expected: list[int]) -> None:
    assert [run.id for run in search(ledger.runs, metric=metric)] == [identifier(number) for number in expected]


def test_all_conditions_must_match(ledger: Ledger) -> None:
    assert [run.id for run in search(ledger.runs, tag="team=blue", metric="auc>0.5")] == [identifier(1)]
    assert search(ledger.runs, tag="team=red", metric="auc<0.5") == []
    assert search(ledger.runs, text="training", tag="team=red", metric="auc>0.5", state="failed") == []
    assert search(ledger.runs, tag="team=blu") == []


def test_the_next_page_continues_after_the_last_one(ledger: Ledger) -> None:
    page = search(ledger.runs, text="train", limit=2)
    assert [run.id for run in search(ledger.runs, text="train", limit=2, before=page[-1].id)] == [identifier(1)]


@pytest.mark.parametrize("metric", ["auc is good", "auc", "<0.5", "auc<", "auc<abc", "auc<1.2.3", "auc<nan", "auc==1"])
def test_the_error_for_an_invalid_metric_has_an_example(metric: str) -> None:
    with pytest.raises(InputError, match="not a comparison of a metric") as error:
        parse_metric_filter(metric)
    assert "test_log_loss<0.5" in error.value.cure


@pytest.mark.parametrize("tag", ["blue", "=blue", " "])
def test_a_tag_without_name_or_value_is_an_error(tag: str) -> None:
    with pytest.raises(InputError, match="not a tag"):
        parse_tag(tag)


def test_names_may_have_any_letters() -> None:
    assert parse_metric_filter("verlust_höhe>=1") == MetricFilter("verlust_höhe", ">=", 1.0)
    assert parse_tag("größe=a=b") == "größe=a=b"
