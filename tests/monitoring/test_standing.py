"""Changes that stand: a column that moved is reported once, and again only if something is new."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidemill.core.check import Action, Outcome, Verdict
from tidemill.core.policy import WatchValue
from tidemill.monitoring.standing import mark_standing, read_memory

START = datetime(2026, 1, 5, tzinfo=UTC)
VALUE = WatchValue(value="drift", limit=0.5, action="ignore", window="4d")
DAY = timedelta(days=1)


class Watched:
    """The verdicts of one look a day; `look` takes the effect of each column that moved."""

    def __init__(self, value: WatchValue = VALUE) -> None:
        self.value, self.now, self.verdicts = value, START, list[Verdict]()

    def look(self, *tests: dict[str, Any], outcome: Outcome = "warn", action: Action = "experiment") -> Verdict:
        self.now += DAY
        moved = sum(test["moved"] for test in tests)
        found: Outcome = outcome if moved or outcome == "undecided" else "pass"
        verdict = Verdict(
            check="drift",
            subject="shop/1",
            outcome=found,
            action=action if moved else "proceed",
            reason=f"{moved} of 9 columns moved: …",
            evidence={"rows": 1000} if found == "undecided" else {"columns": list(tests)},
        )
        self.verdicts.insert(0, mark_standing(verdict, self.value, self.verdicts, self.now))
        return self.verdicts[0]


def moved(column: str, effect: float, kind: str = "distribution") -> dict[str, Any]:
    return {
        "column": column,
        "kind": kind,
        "kinds": [kind],
        "effect": effect,
        "least": 0.05,
        "rows": 1000,
        "comparison": "level",
        "moved": True,
    }


def still(column: str, effect: float) -> dict[str, Any]:
    test = moved(column, effect) | {"moved": False}
    del test["kinds"]
    return test


def test_a_change_that_stands_is_reported_once_with_the_day_since_when() -> None:
    watched = Watched()
    assert watched.look(moved("temp", 0.3)).action == "experiment"
    for effect in (0.32, 0.28, 0.35):
        verdict = watched.look(moved("temp", effect))
        assert (verdict.outcome, verdict.action) == ("warn", "proceed")
        assert verdict.reason == "nothing new: 1 column differs as reported: temp (since 2026-01-06)"


def test_growth_another_column_and_another_way_are_new() -> None:
    watched = Watched()
    watched.look(moved("temp", 0.2))
    grown = watched.look(moved("temp", 0.5))
    assert grown.action == "experiment"
    other = watched.look(moved("temp", 0.5), moved("wind", 0.1))
    assert other.action == "experiment"
    assert other.reason.startswith("1 more column moved: wind (0.10); 1 column differs as reported: temp (since")
    broken = watched.look(moved("temp", 1.0, "constant"), moved("wind", 0.1))
    assert (broken.action, "temp (one value in 1000 rows)" in broken.reason) == ("experiment", True)
    assert watched.look(moved("temp", 1.0), moved("wind", 0.1)).action == "proceed"
    assert watched.look(moved("temp", 0.9, "missing"), moved("wind", 0.1)).action == "experiment"


def test_a_small_window_does_not_make_a_change_grow_by_chance() -> None:
    watched = Watched()
    watched.look(moved("temp", 0.2))
    assert watched.look(moved("temp", 0.42) | {"rows": 250}).action == "proceed"
    assert watched.look(moved("temp", 0.45) | {"rows": 250}).action == "experiment"


def test_a_column_that_recovered_and_breaks_again_is_new() -> None:
    watched = Watched()
    watched.look(moved("temp", 1.0, "missing"))
    assert watched.look(still("temp", 0.1)).action == "proceed"
    assert watched.look(moved("temp", 1.0, "missing")).action == "experiment"


def test_a_change_at_the_border_of_significance_is_not_reported_each_time() -> None:
    watched = Watched()
    watched.look(moved("temp", 0.2))
    for _ in range(3):
        assert watched.look(still("temp", 0.15)).outcome == "pass"
        assert watched.look(moved("temp", 0.2)).action == "proceed"
    watched.look(still("temp", 0.15))
    watched.look(still("temp", 0.15))
    assert watched.look(moved("temp", 0.2)).action == "experiment"


def test_too_few_rows_after_a_release_do_not_make_an_old_change_new() -> None:
    watched = Watched()
    watched.look(moved("temp", 0.3))
    watched.look(outcome="undecided", action="hold")
    assert watched.look(moved("temp", 0.3)).action == "proceed"


def test_a_relation_of_a_column_that_moved_is_not_new_and_the_column_after_its_relation_is() -> None:
    watched = Watched()
    assert watched.look(moved("temp given the others", 0.4, "relation")).action == "experiment"
    assert watched.look(moved("temp with the others", 0.4, "relation")).action == "proceed"
    assert watched.look(moved("temp", 0.3)).action == "experiment"
    assert watched.look(moved("temp with the others", 0.4, "relation")).action == "proceed"


@pytest.mark.parametrize("action", ["retrain", "recall"])
def test_what_is_done_does_not_depend_on_what_was_reported(action: Action) -> None:
    watched = Watched()
    for _ in range(3):
        verdict = watched.look(moved("temp", 0.3), outcome="fail", action=action)
        assert (verdict.outcome, verdict.action) == ("fail", action)


def test_two_values_of_drift_do_not_share_what_was_reported() -> None:
    watched = Watched()
    watched.look(moved("temp", 0.3))
    watched.value = WatchValue(value="drift", limit=0.5, action="ignore", window="4d", reference="seasonal")
    assert watched.look(moved("temp", 0.3)).action == "experiment"


def test_what_was_reported_is_kept_by_the_newest_verdict_alone() -> None:
    watched = Watched()
    for number in range(40):
        watched.look(moved("temp", 0.3 + number / 1000))
        del watched.verdicts[1:]
    memory = read_memory(watched.verdicts[0])
    assert memory is not None
    assert memory.columns["temp"].since == START + DAY
    assert [memory.columns["temp"].reported, memory.columns["temp"].seen] == [START + DAY, watched.now]


def test_relations_of_two_columns_that_take_turns_as_the_largest_are_reported_once_each() -> None:
    watched = Watched()
    names = ("temp with the others", "wind given the others")
    tests = [(moved(names[look % 2], 0.4, "relation"), still(names[1 - look % 2][:4], 0.1)) for look in range(8)]
    actions = [watched.look(*pair).action for pair in tests]
    assert actions == ["experiment"] * 2 + ["proceed"] * 6
