"""The share of a challenger: it grows while its live loss is lower, and both releases predict all rows."""

from pathlib import Path

import pytest

from tests.registry.test_rollout import Dock
from tidemill.core.check import Verdict


@pytest.fixture
def canary(tmp_path: Path) -> Dock:
    dock = Dock(tmp_path)
    dock.release()
    dock.release(share=0.2)
    return dock


def step(dock: Dock, share: float) -> None:
    route = dock.deployer.apply_canary_verdict("late", build_verdict(share))
    assert route is not None
    assert (route.change, route.verdict) == ("step", "v1")


def build_verdict(share: float) -> Verdict:
    return Verdict(
        id="v1",
        check="traffic",
        subject="late/2",
        outcome="undecided",
        action="step",
        reason="numbers",
        evidence={"share": share, "rows": 90},
    )


def test_both_releases_predict_all_rows_after_a_step(canary: Dock) -> None:
    step(canary, 0.8)
    roles = [("champion", "late/1", 0.2), ("challenger", "late/2", 0.8)]
    assert canary.arms == [*roles, ("shadow", "late/2", 0.0), ("shadow", "late/1", 0.0)]


def test_the_share_can_fall_again_and_the_canary_can_end(canary: Dock) -> None:
    step(canary, 0.8)
    step(canary, 0.2)
    assert canary.arms[:2] == [("champion", "late/1", 0.8), ("challenger", "late/2", 0.2)]
    canary.settle("late/2", "promote")
    assert canary.arms == [("champion", "late/2", 1.0)]


def test_a_step_is_audited(canary: Dock) -> None:
    step(canary, 0.8)
    entry = canary.books.audit.find()[-1]
    assert (entry.action, entry.subject) == ("changed the share of", "late/2")


def test_a_step_that_is_repeated_changes_nothing(canary: Dock) -> None:
    step(canary, 0.8)
    before = len(canary.books.audit.find())
    assert canary.deployer.apply_canary_verdict("late", build_verdict(0.8)) is None
    assert len(canary.books.audit.find()) == before
