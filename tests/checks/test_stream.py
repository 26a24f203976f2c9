"""Lateness: how long ago something happened, against a limit in days."""

from datetime import UTC, datetime, timedelta

import pytest

from tidemill.checks.stream import check_days_since

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
