"""A retraining that was refused waits for new rows, and spends neither cooldown nor budget."""

from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import make_project, tidemill
from tidemill.clock import SystemClock, VirtualClock
from tidemill.compose.session import open_session
from tidemill.core.trigger import Job, JobState, Trigger
from tidemill.daemon.attempts import Attempts
from tidemill.daemon.triggers import Triggers
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.project.project import Project

RETRAIN = Trigger(
    name="worse", on="verdict", where={"action": "retrain"}, pipeline="training", cooldown="16d", budget=1
)
VERDICT = {"check": "performance", "outcome": "fail", "action": "retrain", "reason": "", "run": "", "step": ""}


class Loop:
    """Triggers on a virtual clock, over a project whose files are real."""

    def __init__(self, folder: Path) -> None:
        self.session: Session = open_session(Project(folder))
        self.clock = VirtualClock(SystemClock().now())
        policy = replace(self.session.project.policy, triggers=(RETRAIN,))
        self.books = self.session.workspace.ledger
        same_rows = Attempts(self.session).find_same_rows
        self.triggers = Triggers(policy, self.books, self.clock, "production", find_same_rows=same_rows)

    def ask(self) -> Job:
        """Request a retraining, and return its job."""
        self.clock.sleep(60)
        key = f"verdict/{self.clock.mint()}"
        self.triggers.emit("verdict", "shop/1", key, self.clock.now(), {**VERDICT, "model": "shop"})
        fired = self.triggers.fire()
        return fired[0] if fired else self.books.jobs.find(state="dropped", newest=True, limit=1)[0]

    def settle(self, job: Job, state: JobState = "done") -> None:
        """Run a job, and settle it as if its run had ended in a state."""
        cause = {"trigger": job.trigger, "event": job.event, "job": job.id}
        record, _ = run(self.session, self.session.project.code.pipeline("training"), {"model": "shop"}, cause=cause)
        self.books.jobs.change(job.id, lambda current: replace(current, state=state, run=record.id))


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    folder = make_project(tmp_path / "shop").folder
    file = folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True).sort("ordered")
    rows[:-100].write_csv(file)
    tidemill(folder, "run", "training")
    return Loop(folder)


def test_the_same_rows_are_not_trained_on_again(loop: Loop) -> None:
    first = loop.ask()
    assert first.state == "waiting", "the last run was no job of the daemon"
    loop.settle(first, "stopped")
    loop.clock.sleep(2 * 86400)
    dropped = loop.ask()
    assert dropped.state == "dropped"
    assert dropped.error.startswith("no new rows since run ")
    assert dropped.error.endswith(", which was stopped")


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_a_refused_retraining_spends_neither_cooldown_nor_budget(loop: Loop, state: JobState) -> None:
    loop.settle(loop.ask(), state)
    (loop.session.project.folder / "data" / "shop.csv").touch()  # it is delivered again
    early = loop.ask()
    assert "the last retraining did not help: the next one may start at" in early.error
    loop.clock.sleep(86400)
    assert loop.ask().state == "waiting", "a sixteenth of the cooldown has passed, and a file has arrived again"


def test_a_successful_retraining_spends_the_cooldown(loop: Loop) -> None:
    loop.settle(loop.ask())
    loop.clock.sleep(2 * 86400)
    assert loop.ask().error.startswith("its cooldown (16d) lasts until")


def test_changed_code_is_reason_enough(loop: Loop) -> None:
    loop.settle(loop.ask(), "stopped")
    loop.clock.sleep(2 * 86400)
    with (loop.session.project.folder / "pipeline.py").open("a") as file:
        file.write("\n# a correction\n")
    assert loop.ask().state == "waiting"


def test_a_cancelled_retraining_waits_for_new_rows_only(loop: Loop) -> None:
    loop.settle(loop.ask(), "cancelled")
    assert loop.ask().error.startswith("no new rows since run ")
