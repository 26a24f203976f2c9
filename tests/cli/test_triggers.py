"""Triggers, jobs and frozen models by the command line."""

from pathlib import Path

import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.daemon.triggers import Triggers
from tidemill.project.project import Project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triggers") / "shop"
    make_project(folder)
    return folder


def test_a_pause_is_shown_audited_and_ended(shop: Path) -> None:
    tidemill(shop, "triggers", "pause", "watch", "--until", "2d", "--reason", "holidays")
    shown = tidemill(shop, "triggers", "list")
    assert "holidays" in shown.stdout.replace("\n", "")
    assert "no daemon has run yet" in shown.stderr
    tidemill(shop, "triggers", "resume", "watch", "--reason=test")
    refused = tidemill(shop, "triggers", "resume", "watch", "--reason=test", code=2)
    assert "is not paused" in refused.stderr
    assert [one["action"] for one in listed(shop, "audit", "list")] == ["resumed", "paused"]


def test_the_last_firing_is_distinguished_from_what_is_held_up(shop: Path) -> None:
    session = open_session(Project(shop), "held")
    triggers = Triggers(session.project.policy, session.workspace.ledger, session.clock, "held")
    for key in ("fires", "is dropped"):
        reported = {"action": "retrain", "model": "shop"}
        triggers.emit("verdict", "shop/1", key, session.clock.now(), reported)
        triggers.fire()
    shown = " ".join(tidemill(shop, "triggers", "list", "--env", "held").stdout.split())
    assert "(waiting)" in shown
    assert "(dropped)" not in shown
    assert "its cooldown (" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("models", "history", "--at", "never"), "'never' is not a date"),
        (("triggers", "pause", "wacht", "--reason=test"), "has no trigger 'wacht'"),
        (("triggers", "pause", "watch", "--until", "soon", "--reason=test"), "is not a time"),
        (("triggers", "pause", "watch", "--until", "2001-01-01", "--reason=test"), "is in the past"),
        (("models", "freeze", "nobody", "--reason=test"), "defines no model 'nobody'"),
        (("models", "thaw", "--reason=test"), "is not frozen"),
        (("jobs", "cancel", "019cae6c-5060"), "jobs has no"),
    ],
)
def test_what_cannot_be_held_is_reported(shop: Path, words: tuple[str, ...], message: str) -> None:
    assert message in tidemill(shop, *words, code=2).stderr.replace("\n", " ")


def test_a_job_that_waits_can_be_cancelled_and_is_listed_where_it_belongs(shop: Path) -> None:
    tidemill(shop, "triggers", "fire", "watching")
    tidemill(shop, "triggers", "fire", "watching", "--env", "test")
    (job,) = listed(shop, "jobs", "list", "--env", "test")
    assert listed(shop, "triggers", "jobs", "--env", "test") == [job]
    assert listed(shop, "jobs", "show", job["id"])["state"] == "waiting"
    tidemill(shop, "jobs", "cancel", job["id"])
    assert listed(shop, "jobs", "list", "--state", "cancelled")[0]["id"] == job["id"]
    assert "it is cancelled" in tidemill(shop, "jobs", "cancel", job["id"], code=2).stderr
    for noun in ("checks", "events"):
        assert listed(shop, noun, "list", "--env", "nowhere") == []


def test_a_frozen_model_is_changed_by_people_only(shop: Path) -> None:
    tidemill(shop, "models", "freeze", "--reason", "the audit is on")
    tidemill(shop, "run", "training")
    assert listed(shop, "routes", "list") == []
    (event,) = listed(shop, "events", "list", "--kind", "model.frozen")
    assert "the audit is on" in event["payload"]["reason"]
    tidemill(shop, "models", "promote", "shop/1", "--reason", "I looked at it")
    assert [route["by"] != "policy" for route in listed(shop, "routes", "list")] == [True]
    tidemill(shop, "models", "thaw", "--reason=test")
    assert listed(shop, "audit", "list")[0]["action"] == "thawed"
