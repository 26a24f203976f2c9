"""Retrainings in a row that did not help, and how long the next one waits."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tidemill.clock import VirtualClock
from tidemill.core.check import Action, Outcome, Verdict
from tidemill.core.context import Context
from tidemill.core.policy import ModelPolicy, Problem, Watch
from tidemill.core.release import Release
from tidemill.core.route import Arm, Route
from tidemill.core.run import Run
from tidemill.core.trigger import Job, JobState
from tidemill.ledger.events import record_event
from tidemill.ledger.ledger import Ledger
from tidemill.recipes.watching import judge_retrainings
from tidemill.registry.retrainings import Retraining, find_raised_bar, list_unhelpful

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class History:
    """A ledger to which a test adds retrainings, a day apart."""

    def __init__(self, folder: Path) -> None:
        self.books = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.clock = VirtualClock(NOON)
        self.versions = 0

    def retrain(self, state: JobState = "done", *, check: str = "performance", kind: str = "verdict") -> str:
        self.clock.sleep(86400)
        payload = {"check": check, "outcome": "fail", "action": "retrain", "reason": "", "model": "m"}
        payload |= {"run": "", "step": ""}
        event = record_event(self.books, self.clock, kind, "m", environment="test", payload=payload)
        run, job = self.clock.mint(), self.clock.mint()
        self.books.jobs.add(
            Job(
                id=job,
                trigger="worse",
                dedupe_key=job,
                pipeline="training",
                environment="test",
                state=state,
                created=self.clock.now(),
                available=self.clock.now(),
                model="m",
                event=event.id,
                run=run,
            )
        )
        cause = {"trigger": "worse", "event": event.id, "job": job}
        self.books.runs.add(
            Run(id=run, pipeline="training", environment="test", state="done", started=self.clock.now(), cause=cause)
        )
        self.judge("m", "pass" if state == "done" else "fail", check="gate", run=run)
        return run

    def release(self, run: str) -> str:
        self.versions += 1
        self.books.releases.add(
            Release(
                id=self.clock.mint(),
                name="m",
                version=self.versions,
                package=f"p{self.versions}",
                flavor="lightgbm",
                run=run,
                environment="test",
                created=self.clock.now(),
            )
        )
        return f"m/{self.versions}"

    def route(self, champion: str, challenger: str = "") -> None:
        arms = [Arm(release=champion, version=1, package="p", role="champion", share=1.0)]
        arms += [Arm(release=challenger, version=1, package="p", role="challenger", share=0.0)] * bool(challenger)
        self.clock.sleep(60)
        self.books.routes.add(
            Route(
                id=self.clock.mint(),
                environment="test",
                model="m",
                version=len(self.books.routes.find()) + 1,
                arms=tuple(arms),
                since=self.clock.now(),
                reason="",
            )
        )

    def judge(self, subject: str, outcome: Outcome, check: str = "performance", run: str = "") -> None:
        verdict = Verdict(check=check, subject=subject, outcome=outcome, action="hold", reason="", model="m")
        self.books.verdicts.add(
            Verdict(
                **{
                    **{name: getattr(verdict, name) for name in verdict.__struct_fields__},
                    "id": self.clock.mint(),
                    "environment": "test",
                    "run": run,
                    "time": self.clock.now(),
                }
            )
        )

    def reasons(self, trigger: str = "worse") -> list[str]:
        found = list_unhelpful(self.books, "test", "m", trigger)
        assert found == list_unhelpful(self.books, "test", "m") or trigger != "worse"
        return [retraining.reason for retraining in found]


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_refused_and_failed_retrainings_in_a_row_did_not_help(history: History) -> None:
    states: tuple[JobState, ...] = ("stopped", "failed", "stopped")
    for state in states:
        history.retrain(state)
    assert history.reasons() == ["stopped", "failed", "stopped"]
    assert history.reasons("another trigger") == []


def judge(history: History, action: Action = "retrain", after: int = 3) -> list[Verdict]:
    """Return the verdict of the watch when another retraining is due, and store it."""
    problem = Problem(decision="", source="s", label="y")
    policy = ModelPolicy(problem=problem, name="m", watch=Watch(experiment_after=after))
    due = Verdict(check="performance", subject="m/1", outcome="fail", action=action, reason="worse")
    context = Context(run="", step="", environment="test", model="m", cause={})
    found = judge_retrainings(policy, [due], history.books, context)
    for verdict in found:
        stored = replace(verdict, id=history.clock.mint(), environment="test", model="m", time=history.clock.now())
        history.books.verdicts.add(stored)
    return found


def test_retrainings_in_vain_ask_a_person_once(history: History) -> None:
    for _ in range(2):
        history.retrain("stopped")
    assert judge(history) == []
    history.retrain("failed")
    assert judge(history, "ignore") == [], "no retraining is due"
    (verdict,) = judge(history)
    assert (verdict.outcome, verdict.action) == ("fail", "experiment")
    assert verdict.reason.startswith("the last 3 retrainings in a row did not help: failed; stopped")
    assert judge(history) == []
    history.retrain("stopped")
    assert judge(history) == [], "the same row was reported"


def test_another_row_is_reported_again(history: History) -> None:
    history.retrain("stopped")
    assert len(judge(history, after=1)) == 1
    history.route(history.release(history.retrain()))
    history.judge("m/1", "pass")
    assert judge(history, after=1) == []
    history.retrain("stopped")
    assert len(judge(history, after=1)) == 1


def test_one_that_helped_ends_the_row(history: History) -> None:
    history.retrain("stopped")
    history.route(history.release(history.retrain()))
    history.judge("m/1", "pass")
    history.retrain("stopped")
    assert history.reasons() == ["stopped"]


def test_a_release_that_was_rolled_back_did_not_help(history: History) -> None:
    history.route("m/0")
    label = history.release(history.retrain())
    history.route("m/0", label)
    assert history.reasons() == [], "its canary is running"
    history.route("m/0")
    assert history.reasons() == ["the canary of m/1 was rolled back"]


def test_a_release_that_never_passed_the_check_that_requested_it_did_not_help(history: History) -> None:
    history.route(history.release(history.retrain()))
    assert history.reasons() == [], "nothing is known yet"
    history.judge("m/1", "fail")
    assert history.reasons() == ["performance of m/1 has failed since its release"]
    history.judge("m/1", "pass")
    assert history.reasons() == []


def test_trainings_that_no_verdict_requested_do_not_count(history: History) -> None:
    history.retrain("stopped", kind="code")
    history.retrain("cancelled")
    assert history.reasons() == []


@pytest.mark.parametrize(("refused", "waits"), [(0, 0.0), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (9, 16.0)])
def test_each_refusal_raises_the_bar_up_to_the_cooldown(refused: int, waits: float) -> None:
    row = [Retraining(time=NOON, check="drift", run="", reason="", released=False)] * refused
    assert find_raised_bar(row, 16 * DAY, NOON) == NOON + waits * DAY


def test_a_second_release_that_did_not_help_doubles_the_cooldown() -> None:
    row = [Retraining(time=NOON, check="drift", run="", reason="", released=True)]
    assert find_raised_bar(row, DAY, NOON) == NOON + DAY
    assert find_raised_bar(row * 2, DAY, NOON) == NOON + 2 * DAY
