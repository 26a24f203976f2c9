"""Rollout: canary, promotion, rollback and approval, as routes and events show them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tidemill.clock import VirtualClock
from tidemill.core.check import Action, Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Rollout, Watch, WatchValue
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.errors import InputError, NotFound, TidemillError
from tidemill.evidence.audit import verify_entries
from tidemill.journal.board import FileBoard
from tidemill.ledger.decisions import has_person_decided
from tidemill.ledger.ledger import Ledger
from tidemill.registry.releases import register
from tidemill.registry.rollout import Deployer
from tidemill.registry.routing import find_current_route, list_routes

WATCHED = Watch(values=(WatchValue(value="age", limit=30, action="retrain"),))


class Dock:
    def __init__(self, folder: Path) -> None:
        self.books = Ledger("sqlite://")
        self.board = FileBoard(folder)
        self.clock = VirtualClock(datetime(2013, 3, 1, 12, tzinfo=UTC))
        self.deployer = Deployer(self.books, self.board, self.clock, "test")

    def register(self) -> Release:
        manifest = Manifest(name="late", flavor="lightgbm", signature=Signature(inputs=(), task="regression"))
        package = f"package-{self.clock.mint()}"
        return register(self.books, self.clock, Model(manifest=manifest), package, environment="test")

    def policy(self, watch: Watch = WATCHED, **rollout: Any) -> ModelPolicy:
        problem = Problem(decision="d", source="rows", label="late")
        return ModelPolicy(name="late", problem=problem, rollout=Rollout(**rollout), watch=watch)

    def release(self, **rollout: Any) -> Route | None:
        return self.deployer.deploy(self.register(), self.policy(**rollout))

    def settle(self, subject: str, action: Action) -> Route | None:
        verdict = Verdict(id="v1", check="traffic", subject=subject, outcome="pass", action=action, reason="numbers")
        return self.deployer.apply_canary_verdict("late", verdict)

    @property
    def arms(self) -> list[tuple[str, str, float]]:
        """The arms of the published route."""
        return [(arm.role, arm.release, round(arm.share, 6)) for arm in self.board.routes()["late"].arms]


@pytest.fixture
def dock(tmp_path: Path) -> Iterator[Dock]:
    """A dock; whatever a test does, each change of the route has its entry in the audit log."""
    dock = Dock(tmp_path)
    yield dock
    routes = dock.books.routes.find()
    entries = dock.books.audit.find()
    assert [(e.detail["route"], e.actor) for e in entries] == [(route.id, route.by) for route in routes]
    assert all(entry.reason for entry in entries)


def test_the_first_release_serves_all_requests(dock: Dock) -> None:
    dock.release()
    assert dock.arms == [("champion", "late/1", 1.0)]


def test_a_later_release_is_a_canary_first(dock: Dock) -> None:
    dock.release()
    route = dock.release(share=0.2)
    assert dock.arms == [("champion", "late/1", 0.8), ("challenger", "late/2", 0.2), ("shadow", "late/2", 0.0)]
    assert route is not None
    assert "20%" in route.reason


def test_without_a_canary_a_release_serves_all_requests(dock: Dock) -> None:
    dock.release()
    dock.release(canary=False)
    assert dock.arms == [("champion", "late/2", 1.0)]


def test_a_good_canary_is_promoted_with_its_verdict(dock: Dock) -> None:
    dock.release()
    dock.release()
    route = dock.settle("late/2", "promote")
    assert dock.arms == [("champion", "late/2", 1.0)]
    assert route is not None
    assert (route.verdict, route.reason) == ("v1", "promoted: numbers")


def test_each_decision_of_the_policy_is_audited_with_its_verdict(dock: Dock) -> None:
    """First release, canary, promotion, rollbacks and recall: who, what, and the verdict with its reason."""

    def judge(identifier: str, subject: str, action: Action, reference: str = "") -> Verdict:
        verdict = Verdict(
            id=identifier,
            check="judge",
            subject=subject,
            outcome="fail",
            action=action,
            reason=f"numbers \x1bof {identifier}",
            reference=reference,
        )
        return dock.books.verdicts.add(verdict)

    deploy = dock.deployer
    deploy.deploy(dock.register(), dock.policy(), judge("gate1", "late/1", "proceed").id)
    deploy.deploy(dock.register(), dock.policy(), judge("gate2", "late/2", "proceed").id)
    deploy.apply_canary_verdict("late", judge("good", "late/2", "promote"))
    deploy.deploy(dock.register(), dock.policy())
    deploy.apply_canary_verdict("late", judge("bad", "late/3", "rollback"))
    deploy.apply_watch_verdict("late", judge("worse", "late/2", "rollback"))
    deploy.recall("late", judge("back", "late/1", "recall", "late/2"))
    entries = dock.books.audit.find()
    assert [(entry.action, entry.subject, entry.detail.get("verdict", "")) for entry in entries] == [
        ("promoted", "late/1", "gate1"),
        ("started the canary of", "late/2", "gate2"),
        ("promoted", "late/2", "good"),
        ("started the canary of", "late/3", ""),
        ("rolled back the canary of", "late/3", "bad"),
        ("rolled back to", "late/1", "worse"),
        ("recalled", "late/2", "back"),
    ]
    assert {entry.actor for entry in entries} == {"policy"}
    for entry in entries:
        verdict = entry.detail.get("verdict", "")
        assert (f"by verdict {verdict} (judge)" in entry.reason and f"of {verdict}" in entry.reason) == bool(verdict)
        assert "\x1b" not in entry.reason
    assert not verify_entries(dock.books.audit.stored()).faults


def test_a_route_whose_audit_entry_cannot_be_written_is_not_changed(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TidemillError("the disk is full", "free some space")

    with monkeypatch.context() as patched:
        patched.setattr(dock.books.audit, "add", fail)
        with pytest.raises(TidemillError, match="the disk is full"):
            dock.release()
    assert not dock.books.routes.find()
    assert not dock.board.routes()


def test_a_decision_of_the_policy_is_none_of_a_person(dock: Dock) -> None:
    dock.release()
    assert dock.books.audit.find(subject="late/1")
    assert not has_person_decided(dock.books, "late/1")
    dock.deployer.promote("late/1", "Ada", "because")
    assert has_person_decided(dock.books, "late/1")


def test_a_bad_canary_is_rolled_back(dock: Dock) -> None:
    dock.release()
    dock.release()
    dock.settle("late/2", "rollback")
    assert dock.arms == [("champion", "late/1", 1.0)]


@pytest.mark.parametrize(("subject", "action"), [("late/2", "hold"), ("late/1", "promote"), ("late/9", "rollback")])
def test_a_verdict_without_an_action_or_on_another_release_changes_nothing(
    dock: Dock, subject: str, action: Action
) -> None:
    assert dock.settle(subject, action) is None
    dock.release()
    dock.release()
    before = dock.arms
    assert dock.settle(subject, action) is None
    assert dock.arms == before
    assert len(list_routes(dock.books, "test", "late")) == 2


def test_a_running_canary_continues_and_a_new_release_waits(dock: Dock) -> None:
    for _ in range(3):
        dock.release(share=0.1)
    assert dock.arms == [("champion", "late/1", 0.9), ("challenger", "late/2", 0.1), ("shadow", "late/2", 0.0)]
    (event,) = dock.books.events.find(kind="release.waiting")
    assert event.subject == "late/3"
    assert "the canary of late/2 continues" in event.announcement.reason
    assert dock.deployer.deploy_waiting(dock.policy()) is None
    assert len(list_routes(dock.books, "test", "late")) == 2


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_waiting_release_starts_after_the_canary(dock: Dock, action: Action) -> None:
    for _ in range(4):
        dock.release(share=0.1)
    dock.settle("late/2", action)
    assert dock.deployer.deploy_waiting(dock.policy(share=0.1)) is not None
    champion = "late/2" if action == "promote" else "late/1"
    assert dock.arms == [("champion", champion, 0.9), ("challenger", "late/4", 0.1), ("shadow", "late/4", 0.0)]
    dock.settle("late/4", "rollback")
    assert dock.deployer.deploy_waiting(dock.policy()) is None, "late/3 is older than a release that was judged"


def test_a_waiting_release_does_not_start_after_a_decision_of_a_person(dock: Dock) -> None:
    for _ in range(3):
        dock.release()
    dock.deployer.promote("late/1", "Ada", "because")
    assert dock.deployer.deploy_waiting(dock.policy()) is None
    route = dock.deployer.approve(dock.books.releases.find(name="late", version=3)[0], dock.policy(), "Ada", "because")
    assert route is not None


def test_a_person_can_start_a_waiting_release_at_once(dock: Dock) -> None:
    for _ in range(3):
        dock.release()
    route = dock.deployer.approve(dock.books.releases.find(name="late", version=3)[0], dock.policy(), "Ada", "because")
    assert route is not None
    assert route.reason == "canary of 20%; it replaces the canary of late/2, which was undecided"


def test_by_policy_a_newer_canary_replaces_an_older_one_with_a_reason(dock: Dock) -> None:
    for _ in range(3):
        route = dock.release(share=0.1, during_canary="replace")
    assert dock.arms == [("champion", "late/1", 0.9), ("challenger", "late/3", 0.1), ("shadow", "late/3", 0.0)]
    assert route is not None
    assert route.reason.endswith("it replaces the canary of late/2, which was undecided")
    assert [event.subject for event in dock.books.events.find(kind="canary.replaced")] == ["late/3"]
    assert dock.settle("late/2", "promote") is None


def test_a_release_that_was_rolled_back_is_not_released_again_by_the_same_training(dock: Dock) -> None:
    dock.release()
    second = dock.register()
    dock.deployer.deploy(second, dock.policy())
    dock.settle("late/2", "rollback")
    for _ in range(2):
        assert dock.deployer.deploy(second, dock.policy()) is None
    assert [event.subject for event in dock.books.events.find(kind="release.retired")] == ["late/2"]
    assert dock.arms == [("champion", "late/1", 1.0)]
    assert dock.deployer.deploy(second, dock.policy(), by="Ada") is not None


def test_an_approval_is_requested_once(dock: Dock) -> None:
    release, policy = dock.register(), dock.policy(approval=True)
    assert dock.deployer.deploy(release, policy) is None
    assert dock.deployer.deploy(release, policy) is None
    (event,) = dock.books.events.find(kind="approval.needed")
    assert event.subject == "late/1"
    assert find_current_route(dock.books, "test", "late") is None
    route = dock.deployer.approve(release, policy, "Ada", "because")
    assert route is not None
    assert (dock.arms, route.by) == ([("champion", "late/1", 1.0)], "Ada")
    with pytest.raises(InputError, match="late/1 is in production already"):
        dock.deployer.approve(release, policy, "Ada", "because")


def test_only_a_waiting_release_can_be_approved(dock: Dock) -> None:
    first, policy = dock.register(), dock.policy(approval=True)
    with pytest.raises(InputError, match="late/1 does not wait for an approval") as refused:
        dock.deployer.approve(first, policy, "Ada", "because")
    assert "models promote late/1" in refused.value.cure
    assert dock.deployer.deploy(first, policy) is None
    dock.deployer.promote("late/1", "Ada", "because")
    dock.deployer.promote(dock.register().label, "Ada", "because")
    with pytest.raises(InputError, match="late/1 does not wait for an approval"):
        dock.deployer.approve(first, policy, "Ada", "because")  # it was in production, and was replaced


def test_a_model_without_a_watch_receives_no_traffic(dock: Dock) -> None:
    assert dock.deployer.deploy(dock.register(), dock.policy(Watch())) is None
    (event,) = dock.books.events.find(kind="watch.missing")
    assert "no production traffic" in event.payload["reason"]
    assert dock.board.routes() == {}


def test_releasing_the_champion_again_changes_nothing(dock: Dock) -> None:
    release = dock.register()
    first = dock.deployer.deploy(release, dock.policy())
    assert dock.deployer.deploy(release, dock.policy()) == first
    assert len(list_routes(dock.books, "test", "late")) == 1


def test_a_person_promotes_a_release_and_rolls_it_back(dock: Dock) -> None:
    dock.release()
    dock.register()
    promoted = dock.deployer.promote("late/2", "Ada", "because")
    assert (promoted.by, promoted.reason) == ("Ada", "because")
    back = dock.deployer.rollback("late", "Ada", "it was slow")
    assert (dock.arms, back.reason) == ([("champion", "late/1", 1.0)], "it was slow")
    with pytest.raises(NotFound):
        dock.deployer.promote("late/9", "Ada", "because")


@pytest.mark.parametrize("reason", ["", " \t", "…"])
def test_a_person_gives_a_reason(dock: Dock, reason: str) -> None:
    dock.release()
    dock.release(approval=True)
    waiting = dock.books.releases.find(name="late", version=2)[0]
    decisions: list[Callable[[], object]] = [
        lambda: dock.deployer.promote("late/2", "Ada", reason),
        lambda: dock.deployer.approve(waiting, dock.policy(), "Ada", reason),
    ]
    for decide in decisions:
        with pytest.raises(InputError, match="the decision has no reason") as refused:
            decide()
        assert "--reason" in refused.value.cure
    dock.deployer.promote("late/2", "Ada", "  it is better ")
    with pytest.raises(InputError, match="the decision has no reason"):
        dock.deployer.rollback("late", "Ada", reason)
    assert [entry.reason for entry in dock.books.audit.find() if entry.actor == "Ada"] == ["it is better"]


def test_each_rollback_restores_an_earlier_champion(dock: Dock) -> None:
    for _ in range(4):
        dock.release(canary=False)

    def back() -> str:
        return dock.deployer.rollback("late", "Ada", "because").arms[0].release

    assert [back(), back()] == ["late/3", "late/2"]
    dock.deployer.promote("late/4", "Ada", "it was fixed")
    assert [back(), back()] == ["late/2", "late/1"]
    with pytest.raises(InputError, match="no earlier champion"):
        back()


def test_a_rollback_without_an_earlier_champion_is_an_error(dock: Dock) -> None:
    with pytest.raises(InputError, match="no earlier champion") as refused:
        dock.deployer.rollback("late", "Ada", "because")
    assert refused.value.cure
    dock.release()
    with pytest.raises(InputError, match="no earlier champion"):
        dock.deployer.rollback("late", "Ada", "because")


def test_a_rollback_during_a_canary_stops_the_canary(dock: Dock) -> None:
    dock.release()
    dock.release(canary=False)
    dock.release()
    dock.deployer.rollback("late", "Ada", "because")
    assert dock.arms == [("champion", "late/1", 1.0)]


def test_a_champion_that_fails_falls_back_to_the_one_before(dock: Dock) -> None:
    dock.release()
    dock.release(canary=False)

    def fall_back(subject: str, action: Action = "rollback") -> Route | None:
        verdict = Verdict(
            id="v1", check="performance", subject=subject, outcome="fail", action=action, reason="numbers"
        )
        return dock.deployer.apply_watch_verdict("late", verdict)

    assert fall_back("late/1") is None
    assert fall_back("late/2", "retrain") is None
    route = fall_back("late/2")
    assert route is not None
    assert (dock.arms, route.verdict) == ([("champion", "late/1", 1.0)], "v1")


def test_each_route_names_its_kind_of_change(dock: Dock) -> None:
    dock.release()
    dock.release()
    dock.settle("late/2", "rollback")
    dock.release()
    dock.settle("late/3", "promote")
    dock.release(canary=False)
    failing = Verdict(check="performance", subject="late/4", outcome="fail", action="rollback", reason="numbers")
    dock.deployer.apply_watch_verdict("late", failing)
    dock.deployer.promote("late/1", "Ada", "first again")
    dock.deployer.rollback("late", "Ada", "because")
    changes = [(route.change, route.by) for route in list_routes(dock.books, "test", "late")]
    policy = ["first", "canary", "rollback", "canary", "promote", "direct", "rollback"]
    assert changes == [*((change, "policy") for change in policy), ("manual", "Ada"), ("manual", "Ada")]


def test_two_failing_champions_do_not_alternate(dock: Dock) -> None:
    for _ in range(3):
        dock.release(canary=False)

    def fails(subject: str) -> Route | None:
        verdict = Verdict(check="performance", subject=subject, outcome="fail", action="rollback", reason="numbers")
        return dock.deployer.apply_watch_verdict("late", verdict)

    assert fails("late/3") is not None
    assert fails("late/2") is None, "it was replaced by late/3 once"
    assert dock.arms == [("champion", "late/2", 1.0)]
    dock.release(canary=False)
    assert fails("late/4") is not None, "a new release falls back to the previous champion"
    assert dock.deployer.rollback("late", "Ada", "because").arms[0].release == "late/1", (
        "a release that was rolled back is not restored"
    )


def test_the_first_champion_has_no_fallback(dock: Dock) -> None:
    verdict = Verdict(check="performance", subject="late/1", outcome="fail", action="rollback", reason="numbers")
    assert dock.deployer.apply_watch_verdict("late", verdict) is None
    dock.release()
    assert dock.deployer.apply_watch_verdict("late", verdict) is None
    assert dock.arms == [("champion", "late/1", 1.0)]
