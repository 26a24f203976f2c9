"""The list of checks: complete, and each name with one meaning."""

from datetime import UTC, datetime
from typing import get_args

from tidemill.checks.drift import drift
from tidemill.checks.registry import CHECKS, CheckNeed, find_check, find_stage_checks
from tidemill.checks.stream import check_days_since
from tidemill.checks.traffic import check_traffic
from tidemill.core.check import Action
from tidemill.data.statistics import Profile


def test_each_check_has_one_entry() -> None:
    names = [(one.part_of, one.name) for one in CHECKS]
    assert len(names) == len(set(names))
    assert {one.part_of for one in CHECKS} <= {"", *(one.name for one in CHECKS)}
    assert {need for one in CHECKS for need in one.needs} == set(get_args(CheckNeed))
    assert {action for one in CHECKS for action in one.actions} <= set(get_args(Action))


def test_the_watch_has_checks_that_go_by_the_calendar_and_others() -> None:
    by_calendar = {one.name: one.by_calendar for one in find_stage_checks("watch")}
    assert by_calendar == {"performance": False, "drift": False, "age": True, "silence": True}


def test_the_verdicts_of_checks_have_registered_names() -> None:
    import numpy as np

    noon = datetime(2013, 3, 1, 12, tzinfo=UTC)
    empty = Profile(rows=0, columns=())
    verdicts = [
        *(
            check_days_since(name, noon, noon, subject="late/1", limit=1, action="retrain")
            for name in ("age", "silence")
        ),
        drift(empty, empty, subject="late/1", limit=0.5, minimum=1, action="retrain"),
        check_traffic(
            np.zeros(3), np.zeros(3), subject="late/2", reference="late/1", minimum=9, margin=0.0, expired=False
        ),
    ]
    for verdict in verdicts:
        found = find_check(verdict.check)
        assert found is not None
        assert verdict.action in found.actions
    assert find_check("a check of a project") is None
