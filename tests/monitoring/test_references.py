"""What a live metric is compared with: the release, its first live rows, and its recent windows."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.checks.quality import performance
from tidemill.core.check import Verdict
from tidemill.monitoring.references import (
    MEMORY,
    LiveWindow,
    Reference,
    add_window,
    choose_reference,
    list_references,
    read_windows,
    to_memory,
)

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
LOOK = timedelta(hours=6)


def watch(
    release: float, weeks: list[float], metric: str = "rmse", limit: float = 20.0, reach: float = 1.0
) -> list[Verdict]:
    """Return the verdicts of evaluations every six hours, where a week's live metric is given."""
    verdicts: list[Verdict] = []
    for look in range(4 * 7 * len(weeks)):
        now, value = BEGIN + WEEK + look * LOOK, weeks[look // 28]
        began, windows = read_windows(verdicts[::-1], metric, WEEK)
        references = list_references(Reference(about="at release", value=release), began, windows, WEEK, now)
        chosen = choose_reference(metric, value, references, reach)
        bounds = {"subject": "m/1", "limit": limit, "minimum": 200, "reach": reach}
        verdict = performance(metric, value, chosen.value, 300, about=chosen.about, action="retrain", **bounds)  # type: ignore[arg-type]
        began, windows = add_window(began, windows, LiveWindow(until=now, value=value, reach=reach, rows=300), WEEK)
        memory = {MEMORY: to_memory(began, windows, WEEK)}
        fields = {name: getattr(verdict, name) for name in verdict.__struct_fields__}
        verdicts.append(Verdict(**{**fields, "evidence": verdict.evidence | memory}))
    return verdicts


def failing_weeks(verdicts: list[Verdict]) -> list[int]:
    """Return the weeks in which an evaluation failed."""
    return sorted({number // 28 for number, verdict in enumerate(verdicts) if verdict.outcome == "fail"})


def test_a_loss_at_release_that_was_too_high_hides_no_staleness() -> None:
    """The tested model was stale: its error of 131 would have hidden that the released one rose from 61 to 125."""
    verdicts = watch(131.0, [61.0, 62.0, 61.0, 90.0, 110.0, 125.0])
    assert failing_weeks(verdicts) == [3, 4, 5]
    assert "worse than on its first 300 live labels (61.0000)" in verdicts[-1].reason


def test_one_bad_week_at_the_release_hides_no_staleness() -> None:
    verdicts = watch(100.0, [99.0, 60.0, 61.0, 60.0, 59.0, 60.0, 95.0, 96.0])
    assert failing_weeks(verdicts) == [6, 7]
    assert "as the median of its" in verdicts[-1].reason


def test_a_model_that_is_bad_from_the_start_is_reported() -> None:
    verdicts = watch(60.0, [90.0, 90.0])
    assert failing_weeks(verdicts) == [0, 1]
    assert "worse than at release (60.0000)" in verdicts[0].reason


def test_a_metric_that_should_be_high_works_alike() -> None:
    assert failing_weeks(watch(0.6, [0.9, 0.9, 0.9, 0.7], metric="roc_auc", limit=0.05, reach=0.01)) == [3]


@given(st.lists(st.floats(0, 0.99), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_without_a_change_beyond_the_limit_nothing_fails(noise: list[float], limit: float) -> None:
    weeks = [0.5 + limit * part for part in noise]
    assert failing_weeks(watch(0.5 + limit, weeks, metric="log_loss", limit=limit, reach=0.0)) == []


@given(st.integers(1, 400))
def test_the_kept_windows_are_bounded_and_do_not_overlap(looks: int) -> None:
    began: datetime | None = None
    windows: list[LiveWindow] = []
    for look in range(looks):
        current = LiveWindow(until=BEGIN + look * LOOK, value=1.0, reach=0.1, rows=300)
        began, windows = add_window(began, windows, current, LOOK * 4)
    assert began == BEGIN
    assert 1 <= len(windows) <= 26
    ends = [window.until for window in windows]
    assert all(later - earlier >= LOOK * 4 for earlier, later in pairwise(ends))


@pytest.mark.parametrize(("metric", "length"), [("brier", WEEK), ("rmse", 2 * WEEK)])
def test_another_metric_or_window_starts_anew(metric: str, length: timedelta) -> None:
    verdicts = watch(60.0, [60.0])
    assert read_windows(verdicts[::-1], "rmse", WEEK)[0] == BEGIN + WEEK
    assert read_windows(verdicts[::-1], metric, length) == (None, [])
