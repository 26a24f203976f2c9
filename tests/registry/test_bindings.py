"""Bindings: a release serves the rows of one value of the key, beside the champion, its canary and a recall."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.registry.test_rollout import Dock
from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy
from tidemill.core.regime import Regimes
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.trigger import Job
from tidemill.errors import InputError
from tidemill.ledger.events import record_event
from tidemill.registry.bindings import BINDING, find_counts, find_requested_value
from tidemill.registry.pauses import pause
from tidemill.registry.regimes import list_kept_releases, list_regimes
from tidemill.registry.releases import register
from tidemill.registry.routing import find_current_route
from tidemill.registry.stages import find_stage


class Pier(Dock):
    """A dock whose policy has a key, with releases for one value of it."""

    key = "vehicle"

    def policy(self, *args: Any, **rollout: Any) -> ModelPolicy:
        return replace(super().policy(*args, **rollout), regimes=Regimes(key=self.key))

    def register_for(self, value: str) -> Release:
        manifest = Manifest(
            name="late",
            flavor="lightgbm",
            signature=Signature(inputs=(), task="regression"),
            data={"regime": {"key": "vehicle", "value": value}},
        )
        self.clock.advance(self.clock.now() + timedelta(hours=1))
        return register(
            self.books, self.clock, Model(manifest=manifest), f"package-{self.clock.mint()}", environment="test"
        )

    def bind(self, value: str, **rollout: Any) -> Route | None:
        return self.deployer.deploy(self.register_for(value), self.policy(**rollout))

    def judge(self, action: Any, subject: str, check: str = "regime", **evidence: Any) -> Verdict:
        verdict = Verdict(
            id=self.clock.mint(),
            check=check,
            subject=subject,
            outcome="fail",
            action=action,
            reason="numbers",
            evidence=evidence,
            environment="test",
            model="late",
            time=self.clock.now(),
        )
        return self.books.verdicts.add(verdict)

    @property
    def bound(self) -> dict[str, str]:
        return {arm.value: arm.release for arm in self.board.routes()["late"].bound}

    @property
    def others(self) -> list[tuple[str, str]]:
        return [(arm.role, arm.release) for arm in self.board.routes()["late"].arms if arm.role != "bound"]


@pytest.fixture
def pier(tmp_path: Path) -> Pier:
    pier = Pier(tmp_path)
    pier.release()
    return pier


def test_a_release_for_a_value_is_bound_at_once_and_the_champion_stays(pier: Pier) -> None:
    route = pier.bind("B")
    assert route is not None
    assert (route.change, route.key, pier.bound) == ("bind", "vehicle", {"B": "late/2"})
    assert pier.others == [("champion", "late/1")]
    assert find_stage("late/2", [route]) == "production"
    pier.bind("Ü")
    assert pier.bound == {"B": "late/2", "Ü": "late/3"}
    pier.bind("B")
    assert pier.bound == {"B": "late/4", "Ü": "late/3"}


def test_canary_promotion_rollback_and_promotion_by_a_person_keep_bound_releases(pier: Pier) -> None:
    pier.bind("B")
    pier.release(share=0.2)
    assert pier.others == [("champion", "late/1"), ("challenger", "late/3"), ("shadow", "late/3")]
    pier.bind("C")
    assert [role for role, _ in pier.others] == ["champion", "challenger", "shadow"], "the canary continues"
    pier.settle("late/3", "promote")
    assert pier.others == [("champion", "late/3")]
    pier.deployer.promote("late/1", "a person", "because")
    pier.deployer.rollback("late", "a person", "because")
    pier.release(canary=False)
    assert pier.bound == {"B": "late/2", "C": "late/4"}


def test_a_release_waiting_for_a_canary_starts_although_a_value_was_bound_since(pier: Pier) -> None:
    pier.release()
    pier.release()  # waits
    pier.bind("B")
    pier.settle("late/2", "rollback")
    route = pier.deployer.deploy_waiting(pier.policy())
    assert route is not None
    assert ("challenger", "late/3") in pier.others
    assert pier.bound == {"B": "late/4"}


def test_a_rollback_of_the_watch_restores_the_release_before_then_the_champion(pier: Pier) -> None:
    pier.bind("B")
    pier.bind("B")
    route = pier.deployer.apply_watch_verdict("late", pier.judge("rollback", "late/3", "performance"))
    assert route is not None
    assert (route.change, route.back, pier.bound) == ("unbind", True, {"B": "late/2"})
    pier.deployer.apply_watch_verdict("late", pier.judge("rollback", "late/2", "performance"))
    assert pier.bound == {}
    regime = list_regimes(pier.books, "test", "late")[-1]
    assert (regime.value, regime.is_current) == ("B", False)
    assert [tenure.rolled_back for tenure in regime.tenures] == [False, True, True]


def test_where_the_champion_is_better_its_rows_go_back_to_the_champion(pier: Pier) -> None:
    pier.bind("B")
    pier.bind("B")
    pier.deployer.apply_watch_verdict("late", pier.judge("rollback", "late/3", BINDING))
    assert pier.bound == {}
    assert pier.others == [("champion", "late/1")]


def test_a_person_binds_and_unbinds(pier: Pier) -> None:
    pier.bind("B")
    pier.deployer.unbind("late", "B", "a person", "wrong")
    assert pier.bound == {}
    pier.deployer.bind("late/2", "B", "a person", "right after all")
    assert pier.bound == {"B": "late/2"}
    with pytest.raises(InputError, match="no release of model 'late' is bound to vehicle = 'X'"):
        pier.deployer.unbind("late", "X", "a person", "because")


def test_without_a_key_nothing_can_be_bound(tmp_path: Path) -> None:
    dock = Dock(tmp_path)
    dock.release()
    with pytest.raises(InputError, match="no key names the regimes"):
        dock.deployer.bind("late/1", "B", "a person", "because")
    other = Pier(tmp_path / "other")
    other.release()
    release = other.register_for("B")
    with pytest.raises(InputError, match="was trained on the rows with vehicle = 'B'"):
        other.deployer.deploy(release, Dock.policy(other))


def test_another_key_unbinds_and_no_key_too(pier: Pier) -> None:
    pier.bind("B")
    assert pier.deployer.set_key(pier.policy()) is None
    pier.key = "site"
    route = pier.deployer.set_key(pier.policy())
    assert route is not None
    assert (route.change, route.key, pier.bound) == ("key", "site", {})
    assert pier.others == [("champion", "late/1")]


def test_frozen_and_approval(pier: Pier) -> None:
    assert pier.bind("B", approval=True) is None
    release = pier.books.releases.find(name="late", newest=True, limit=1)[0]
    route = pier.deployer.approve(release, pier.policy(approval=True), "a person", "because")
    assert route is not None
    assert pier.bound == {"B": release.label}
    pause(pier.books, pier.clock, "model", "late", environment="test", actor="a person", reason="audit")
    assert pier.bind("C") is None
    assert pier.deployer.apply_watch_verdict("late", pier.judge("rollback", release.label, BINDING)) is None
    assert pier.bound == {"B": release.label}


def test_the_event_of_a_verdict_names_the_value(pier: Pier) -> None:
    verdict = pier.judge("retrain", "late/1", key="vehicle", value="B", of_regime=300)
    event = record_event(pier.books, pier.clock, "verdict", "late/1", environment="test", cause=verdict.id, payload={})
    assert find_requested_value(pier.books, event.id, "vehicle") == "B"
    assert find_requested_value(pier.books, event.id, "site") == ""
    assert find_requested_value(pier.books, "", "vehicle") == ""


def test_a_request_whose_job_was_dropped_does_not_count(pier: Pier) -> None:
    now = pier.clock.now().isoformat()
    counts: dict[str, Any] = {"key": "vehicle", "until": now, "labelled": {"B": 300}, "requested": {"B": 300}}
    verdict = pier.judge("retrain", "late/1", value="B", **counts)
    found = find_counts(pier.books, "test", "late", "vehicle")
    assert found is not None
    assert found.requested == {"B": 300}
    event = record_event(pier.books, pier.clock, "verdict", "late/1", environment="test", cause=verdict.id, payload={})
    job = Job(
        id=pier.clock.mint(),
        trigger="new regime",
        dedupe_key=event.id,
        pipeline="training",
        environment="test",
        state="dropped",
        created=pier.clock.now(),
        available=pier.clock.now(),
        model="late",
        event=event.id,
    )
    pier.books.jobs.add(job)
    found = find_counts(pier.books, "test", "late", "vehicle")
    assert found is not None
    assert (found.labelled, found.requested) == ({"B": 300}, {})
    assert find_counts(pier.books, "test", "late", "site") is None


def test_the_release_of_an_unbound_value_is_kept(pier: Pier) -> None:
    pier.bind("B")
    pier.judge("proceed", "late/1", key="vehicle")
    pier.deployer.unbind("late", "B", "a person", "because")
    assert list_kept_releases(pier.books, "test", "late") == {"late/1", "late/2"}
    route = find_current_route(pier.books, "test", "late")
    assert route is not None
    assert route.bound == ()
