"""Regimes: which releases belong together, which of them can be recalled, and the recall itself."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.registry.test_rollout import Dock
from tidemill.core.check import Action, Verdict
from tidemill.core.route import Route
from tidemill.core.trigger import Job, JobState
from tidemill.ledger.events import record_event
from tidemill.registry.pauses import pause
from tidemill.registry.regimes import (
    find_episode,
    find_regime_start,
    find_replaced,
    find_start,
    list_earlier,
    list_kept_releases,
    list_recallable,
    list_regimes,
    list_requests,
)
from tidemill.registry.routing import find_current_route


class Harbour(Dock):
    """A dock whose verdicts on regimes are stored, as a run stores them."""

    def judge(self, action: Action, subject: str, *, reference: str = "", **evidence: Any) -> Verdict:
        self.clock.advance(self.clock.now() + timedelta(hours=1))
        verdict = Verdict(
            id=self.clock.mint(),
            check="regime",
            subject=subject,
            outcome="fail",
            action=action,
            reason="numbers",
            evidence=evidence,
            reference=reference,
            environment="test",
            model="late",
            time=self.clock.now(),
        )
        return self.books.verdicts.add(verdict)

    def drop_job(self, verdict: Verdict, *, other: JobState = "dropped") -> None:
        """Drop a job that the event of a verdict requests; another trigger's job for it has the state `other`."""
        event = record_event(
            self.books, self.clock, "verdict", verdict.subject, environment="test", cause=verdict.id, payload={}
        )
        job = Job(
            id=self.clock.mint(),
            trigger="new regime",
            dedupe_key=event.id,
            pipeline="training",
            environment="test",
            state="dropped",
            created=self.clock.now(),
            available=self.clock.now(),
            model="late",
            event=event.id,
        )
        self.books.jobs.add(job)
        self.books.jobs.add(replace(job, id=self.clock.mint(), trigger="worse", state=other))

    def serve(self) -> str:
        """Release the next version without a canary."""
        self.clock.advance(self.clock.now() + timedelta(hours=1))
        route = self.release(canary=False)
        assert route is not None
        return route.arms[0].release

    def begin_regime(self, subject: str) -> str:
        """Find a new regime, request a training for it, and release its model."""
        start = self.clock.now().isoformat()
        novel: dict[str, Any] = {"novel": {"since": start}, "start": start}
        self.judge("collect", subject, **novel, of_regime=100)
        self.judge("retrain", subject, **novel, of_regime=300)
        return self.serve()

    def recall(self, release: str) -> Route | None:
        current = find_current_route(self.books, "test", "late")
        assert current is not None
        start = self.clock.now().isoformat()
        verdict = self.judge("recall", current.arms[0].release, reference=release, start=start)
        return self.deployer.recall("late", verdict)

    def list_recallable(self) -> list[str]:
        return [arm.release for arm in list_recallable(self.books, "test", "late")]


@pytest.fixture
def harbour(tmp_path: Path) -> Harbour:
    return Harbour(tmp_path)


def test_a_recalled_release_serves_again_as_a_new_route(harbour: Harbour) -> None:
    first = harbour.serve()
    second = harbour.begin_regime(first)
    assert harbour.list_recallable() == [first]
    route = harbour.recall(first)
    assert route is not None
    assert (route.change, route.version, harbour.arms) == ("recall", 3, [("champion", first, 1.0)])
    assert harbour.list_recallable() == [second]
    regimes = list_regimes(harbour.books, "test", "late")
    assert [(regime.releases, len(regime.tenures), regime.is_current) for regime in regimes] == [
        ((first,), 2, True),
        ((second,), 1, False),
    ]


def test_releases_of_one_regime_are_merged(harbour: Harbour) -> None:
    first = harbour.serve()
    second = harbour.begin_regime(first)
    start = find_start(harbour.books, "test", "late")
    harbour.judge("retrain", second, start=start.isoformat() if start else "", of_regime=600)
    third = harbour.serve()
    route = harbour.recall(first)
    assert route is not None
    returned = find_start(harbour.books, "test", "late")
    harbour.judge("proceed", first, start=returned.isoformat() if returned else "")
    fourth = harbour.serve()
    regimes = [regime.releases for regime in list_regimes(harbour.books, "test", "late")]
    assert regimes == [(first, fourth), (second, third)]
    assert third in harbour.list_recallable()
    assert second not in harbour.list_recallable()
    assert list_kept_releases(harbour.books, "test", "late") >= {third, fourth}


def test_earlier_champions_are_compared_spread_over_the_history(harbour: Harbour) -> None:
    served = [harbour.serve() for _ in range(7)]
    harbour.deployer.rollback("late", "a person", "wrong")
    found = [arm.release for arm in list_earlier(harbour.books, "test", "late")]
    assert found == served[4::-1], "neither the champion nor the release that was rolled back"
    few = [arm.release for arm in list_earlier(harbour.books, "test", "late", 2)]
    assert few == [served[4], served[2]]


def test_a_release_that_was_rolled_back_is_not_recalled(harbour: Harbour) -> None:
    first = harbour.serve()
    second = harbour.begin_regime(first)
    harbour.deployer.rollback("late", "a person", "wrong")
    assert harbour.list_recallable() == []
    assert find_current_route(harbour.books, "test", "late").arms[0].release == first  # type: ignore[union-attr]
    assert second in list_kept_releases(harbour.books, "test", "late")


def test_a_recall_replaces_a_canary_and_says_so(harbour: Harbour) -> None:
    first = harbour.serve()
    harbour.begin_regime(first)
    harbour.release(canary=True)
    route = harbour.recall(first)
    assert route is not None
    assert "it replaces the canary of late/3" in route.reason
    assert harbour.books.events.find(kind="canary.replaced")


def test_a_frozen_model_and_a_stale_verdict_recall_nothing(harbour: Harbour) -> None:
    first = harbour.serve()
    second = harbour.begin_regime(first)
    stale = harbour.judge("recall", first, reference=second)
    assert harbour.deployer.recall("late", stale) is None
    pause(harbour.books, harbour.clock, "model", "late", environment="test", actor="a person", reason="audit")
    assert harbour.recall(first) is None


def test_an_episode_lasts_until_the_route_changes(harbour: Harbour) -> None:
    first = harbour.serve()
    route = find_current_route(harbour.books, "test", "late")
    assert route is not None
    assert find_episode(harbour.books, "test", route) is None
    start = harbour.clock.now()
    harbour.judge("collect", first, novel={"since": start.isoformat()}, start=start.isoformat(), of_regime=7)
    episode = find_episode(harbour.books, "test", route)
    assert episode is not None
    assert episode.since == find_regime_start(harbour.books, "test", "late") == start
    assert list_requests(harbour.books, "test", "late", start) == []
    harbour.judge("retrain", first, novel={"since": start.isoformat()}, start=start.isoformat(), of_regime=300)
    assert list_requests(harbour.books, "test", "late", start) == [300]
    harbour.drop_job(harbour.judge("retrain", first, start=start.isoformat(), of_regime=600))
    assert list_requests(harbour.books, "test", "late", start) == [300], "its rows were not delivered yet"
    harbour.drop_job(harbour.judge("retrain", first, start=start.isoformat(), of_regime=700), other="done")
    assert list_requests(harbour.books, "test", "late", start) == [700, 300], "another trigger trained for it"
    harbour.serve()
    current = find_current_route(harbour.books, "test", "late")
    assert current is not None
    assert find_episode(harbour.books, "test", current) is None
    assert find_start(harbour.books, "test", "late") == start


def test_without_any_verdict_on_regimes_no_release_is_kept_for_them(harbour: Harbour) -> None:
    for _ in range(3):
        harbour.serve()
    assert list_kept_releases(harbour.books, "test", "late") == set()
    assert len(list_regimes(harbour.books, "test", "late")) == 3


def test_the_release_that_a_recall_replaced_is_known_until_the_next_change(harbour: Harbour) -> None:
    first = harbour.serve()
    second = harbour.begin_regime(first)
    assert find_replaced(harbour.books, "test", "late") == ""
    harbour.recall(first)
    assert find_replaced(harbour.books, "test", "late") == second
    harbour.serve()
    assert find_replaced(harbour.books, "test", "late") == ""
