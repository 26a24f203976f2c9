"""Lateness: how long ago something happened, against a limit in days."""

from datetime import UTC, datetime, timedelta

import pytest

from tidemill.checks.stream import check_days_since, check_growth

NOW = datetime(2013, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "outcome"),
    [
        (NOW - timedelta(days=7), "pass"),
        (NOW - timedelta(days=7, seconds=1), "fail"),
        (NOW, "pass"),
        (NOW + timedelta(days=1), "pass"),
    ],
)
def test_it_acts_only_beyond_its_limit(since: datetime, outcome: str) -> None:
    verdict = check_days_since("age", since, NOW, subject="late", limit=7, action="retrain")
    assert (verdict.outcome, verdict.action) == (outcome, "retrain" if outcome == "fail" else "proceed")
    assert verdict.check == "age"
    assert verdict.evidence["days"] == pytest.approx((NOW - since).total_seconds() / 86400)


def test_it_prints_what_is_late() -> None:
    silence = check_days_since("silence", NOW - timedelta(days=3), NOW, subject="late", limit=1, action="experiment")
    assert "its last prediction was 3.0 days ago" in silence.reason


@pytest.mark.parametrize(
    ("days", "outcome"),
    [(10, "pass"), (10.9, "pass"), (11, "fail"), (0.5, "pass"), (-3, "pass")],
    ids=["at the limit", "in whole days", "beyond", "on its day", "rows of the future"],
)
def test_a_model_of_few_rows_is_old_earlier(days: float, outcome: str) -> None:
    end = NOW - timedelta(days=days)
    begin = end - timedelta(days=100)
    verdict = check_growth(begin, end, NOW, subject="late/1", limit=0.1, action="retrain")
    assert (verdict.check, verdict.outcome) == ("growth", outcome), verdict.reason
    assert verdict.action == ("retrain" if outcome == "fail" else "proceed")
    assert verdict.evidence["share"] == pytest.approx(max(days // 1, 0) / 100)


@pytest.mark.parametrize("begin", [None, NOW - timedelta(days=1)])
def test_without_times_of_its_rows_nothing_is_said_about_their_growth(begin: datetime | None) -> None:
    verdict = check_growth(begin, NOW - timedelta(days=1), NOW, subject="late/1", limit=0.1, action="retrain")
    assert (verdict.outcome, verdict.action) == ("undecided", "proceed")
    assert check_growth(NOW, None, NOW, subject="late/1", limit=0.1, action="retrain").outcome == "undecided"


def test_the_rows_of_a_window_do_not_grow() -> None:
    times = NOW - timedelta(days=40), NOW - timedelta(days=12)
    verdict = check_growth(*times, NOW, subject="late/1", limit=0.1, action="retrain", window="28d")
    assert (verdict.outcome, verdict.action) == ("undecided", "proceed")
    assert "28d" in verdict.reason
