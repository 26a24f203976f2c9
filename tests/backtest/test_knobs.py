"""The search space of a policy: which knobs it has, and what each value changes."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.backtest.knobs import Space, describe_settings
from tidemill.core.policy import Policy

_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return make_project(tmp_path_factory.mktemp("knobs") / "shop").policy


def make_space(policy: Policy, history: int = 100, period: int = 200, delivery: int = 1) -> Space:
    return Space(policy, "shop", history=history * _DAY, period=period * _DAY, delivery=delivery * _DAY)


def test_windows_are_shorter_than_the_history(policy: Policy) -> None:
    assert make_space(policy, history=300, period=400).windows == ("all", "365d", "182d", "84d", "56d", "28d")
    assert make_space(policy, history=10, period=60).windows == ("all", "28d")
    assert make_space(policy, history=5, period=20).windows == ("all",)


def test_a_window_has_room_for_the_test_rows(policy: Policy) -> None:
    model = policy.models["shop"]
    long = replace(policy, models={"shop": replace(model, training=replace(model.training, test="40d"))})
    assert make_space(long, history=300, period=400).windows == ("all", "365d", "182d", "84d")


def test_calendars_train_at_least_twice_and_not_between_deliveries(policy: Policy) -> None:
    assert make_space(policy, period=200).calendars == ("quarterly", "monthly", "twice a month", "weekly", "daily")
    assert make_space(policy, period=35, delivery=7).calendars == ("twice a month", "weekly")
    assert make_space(policy, period=1).calendars == ()


def test_only_knobs_that_the_policy_has_are_listed(policy: Policy) -> None:
    assert [knob.name for knob in make_space(policy).list_knobs()] == [
        "window",
        "calendar",
        "canary",
        "drift",
        "cooldown",
        "limit",
    ]
    static = replace(policy, triggers=())
    assert [knob.name for knob in make_space(static).list_knobs()] == ["window", "calendar", "canary", "drift"]


def test_settings_change_only_their_own_values(policy: Policy) -> None:
    space = make_space(policy)
    assert space.apply({}) == policy
    window = space.apply({"window": "84d"})
    assert window.models["shop"].training.window == "84d"
    assert window.triggers == policy.triggers
    cooldown = space.apply({"cooldown": "3d"})
    assert [trigger.cooldown for trigger in cooldown.triggers] == ["1m", "0s", "0s", "0s", "3d"]
    limits = space.apply({"limit": "0.5"}).models["shop"].watch.values
    assert [value.limit for value in limits][:2] == [0.05, 0.3], "the limit of drift is a share of columns"
    rollout = space.apply({"canary": "2d"}).models["shop"].rollout
    assert (rollout.maximum, rollout.extension, rollout.undecided) == ("2d", "0s", "challenger")
    assert rollout.distance == policy.models["shop"].rollout.distance, "the guard rails stay"
    drift = space.apply({"drift": "report"}).models["shop"].watch.values
    assert [value.action for value in drift][:2] == ["retrain", "experiment"]


def test_a_calendar_is_added_once_and_then_changed(policy: Policy) -> None:
    weekly = make_space(policy).apply({"calendar": "weekly"})
    assert (weekly.triggers[-1].name, weekly.triggers[-1].cron) == ("calendar", "0 6 * * 1")
    monthly = make_space(weekly).apply({"calendar": "monthly"})
    assert len(monthly.triggers) == len(weekly.triggers)
    assert monthly.triggers[-1].cron == "0 6 1 * *"
    assert make_space(weekly).apply({"calendar": "none"}) == policy


def test_settings_have_a_readable_name() -> None:
    assert describe_settings({}) == "as written"
    assert describe_settings({"window": "all", "calendar": "none"}) == "all rows, no calendar"
    assert describe_settings({"window": "84d", "limit": "0.5"}) == "rows of 84d, limits × 0.5"


def test_a_trigger_with_the_name_of_the_calendar_stays(policy: Policy, tmp_path: Path) -> None:
    renamed = replace(policy, triggers=(replace(policy.triggers[0], name="calendar"), *policy.triggers[1:]))
    triggers = make_space(renamed).apply({"calendar": "weekly"}).triggers
    assert [trigger.name for trigger in triggers].count("calendar") == 1
    assert triggers[-1].name == "calendar 2"
