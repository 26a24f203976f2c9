"""The list of checks: complete, and each name with one meaning."""

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import tidemill.checks
import tidemill.recipes
from tidemill.checks.drift import drift
from tidemill.checks.registry import CheckNeed, find_check, find_stage_checks
from tidemill.checks.stream import check_days_since
from tidemill.checks.traffic import check_traffic, compare_pairs
from tidemill.core.check import Action
from tidemill.core.rollout import Rollout
from tidemill.data.statistics import Profile
from tidemill.recipes.gating import list_check_kinds


def test_each_check_has_one_entry() -> None:
    checks = list_check_kinds()
    names = [(check.part_of, check.name) for check in checks]
    assert len(names) == len(set(names))
    assert {check.part_of for check in checks} <= {"", *(check.name for check in checks)}
    assert {need for check in checks for need in check.needs} == set(get_args(CheckNeed))
    assert {action for check in checks for action in check.actions} <= set(get_args(Action))


def find_literal_subjects(file: Path) -> Iterator[str]:
    """Yield each string literal `about` of a call of `Finding` in a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            for keyword in node.keywords:
                if keyword.arg == "about" and isinstance(keyword.value, ast.Constant):
                    assert isinstance(keyword.value.value, str)
                    yield keyword.value.value


def test_each_finding_is_registered_as_a_part_of_a_check() -> None:
    folders = [Path(package.__path__[0]) for package in (tidemill.checks, tidemill.recipes)]
    found = {subject for folder in folders for file in folder.rglob("*.py") for subject in find_literal_subjects(file)}
    assert {"leak", "package", "metrics", "data"} <= found
    assert found <= {check.name for check in list_check_kinds() if check.part_of}


def test_the_watch_has_checks_that_go_by_the_calendar_and_others() -> None:
    by_calendar = {check.name: check.by_calendar for check in find_stage_checks("watch")}
    expected = {
        "performance": False,
        "drift": False,
        "regime": False,
        "binding": False,
        "retraining": False,
        "change": False,
        "learning": False,
        "age": True,
        "growth": True,
        "silence": True,
    }
    assert by_calendar == expected


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
        check_traffic(compare_pairs(np.zeros(3), np.zeros(3)), Rollout(), subject="late/2", reference="late/1"),
    ]
    for verdict in verdicts:
        found = find_check(verdict.check)
        assert found is not None
        assert verdict.action in found.actions
    assert find_check("a check of a project") is None
