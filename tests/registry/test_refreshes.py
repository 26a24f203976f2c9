"""A release that differs from the champion only in its rows is a refresh, which may serve most requests at once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tidemill.clock import VirtualClock
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import Gate, ModelPolicy, Problem, Rollout, Watch, WatchValue
from tidemill.core.release import Release
from tidemill.core.run import Run
from tidemill.journal.board import FileBoard
from tidemill.ledger.ledger import Ledger
from tidemill.registry.refreshes import is_refresh
from tidemill.registry.releases import register
from tidemill.registry.rollout import Deployer

NOW = datetime(2013, 3, 1, 12, tzinfo=UTC)
RUN = Run(
    id="first",
    pipeline="training",
    environment="test",
    state="done",
    started=NOW,
    params={"until": "2013-03-01", "rounds": 30},
    code={"digest": "a", "policy": "b", "commit": "c"},
    packages="d",
    software={"python": "3.12", "lightgbm": "4.6"},
)


class Dock:
    def __init__(self, folder: Path) -> None:
        self.books, self.clock = Ledger("sqlite://"), VirtualClock(NOW)
        self.board = FileBoard(folder)
        self.deployer = Deployer(self.books, self.board, self.clock, "test")

    def train(self, run: Run) -> Release:
        """Register a release of a run; one without an id trained nothing, such as an adopted package."""
        if run.id:
            self.books.runs.add(run)
        manifest = Manifest(name="late", flavor="lightgbm", signature=Signature(inputs=(), task="regression"))
        package = f"package-{self.clock.mint()}"
        return register(self.books, self.clock, Model(manifest=manifest), package, environment="test", run=run.id)

    def deploy(self, release: Release, *, refresh_share: float | None = 0.9, gate: bool = True) -> dict[str, float]:
        """Return the shares of the releases that serve."""
        policy = ModelPolicy(
            name="late",
            problem=Problem(decision="d", source="rows", label="late"),
            rollout=Rollout(share=0.1, refresh_share=refresh_share),
            gate=Gate(enabled=gate),
            watch=Watch(values=(WatchValue(value="age", limit=30, action="retrain"),)),
        )
        self.deployer.deploy(release, policy)
        return {arm.release: round(arm.share, 6) for arm in self.board.routes()["late"].arms if arm.share}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"params": {"until": "2013-03-08", "rounds": 30}}, True),
        ({"code": RUN.code | {"commit": "another, of the same files"}}, True),
        ({"params": {"rounds": 31}}, False),
        ({"code": RUN.code | {"digest": "x"}}, False),
        ({"code": RUN.code | {"policy": "x"}}, False),
        ({"code": RUN.code | {"image": "x"}}, False),
        ({"packages": "x"}, False),
        ({"software": {"python": "3.13", "lightgbm": "4.6"}}, False),
        ({"pipeline": "learning"}, False),
        ({"id": ""}, False),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else str(value),
)
def test_only_another_choice_of_rows_is_a_refresh(tmp_path: Path, changed: dict[str, Any], expected: bool) -> None:
    dock = Dock(tmp_path)
    champion = dock.train(RUN)
    release = dock.train(replace(RUN, **({"id": "second"} | changed)))
    assert (
        is_refresh(dock.books, release, champion.label) == is_refresh(dock.books, champion, release.label) == expected
    )


def test_a_refresh_starts_with_its_own_share_and_both_releases_predict_all_rows(tmp_path: Path) -> None:
    dock = Dock(tmp_path)
    dock.deploy(dock.train(RUN))
    assert dock.deploy(dock.train(replace(RUN, id="second"))) == {"late/1": 0.1, "late/2": 0.9}
    shadows = [arm.release for arm in dock.board.routes()["late"].arms if arm.role == "shadow"]
    assert sorted(shadows) == ["late/1", "late/2"]


@pytest.mark.parametrize("options", [{"refresh_share": None}, {"gate": False}])
def test_without_a_share_of_its_own_or_a_gate_it_starts_as_any_other(tmp_path: Path, options: dict[str, Any]) -> None:
    dock = Dock(tmp_path)
    dock.deploy(dock.train(RUN), **options)
    assert dock.deploy(dock.train(replace(RUN, id="second")), **options) == {"late/1": 0.9, "late/2": 0.1}


def test_a_release_that_another_code_trained_starts_with_the_smaller_share(tmp_path: Path) -> None:
    dock = Dock(tmp_path)
    dock.deploy(dock.train(RUN))
    assert dock.deploy(dock.train(replace(RUN, id="second", code={"digest": "x"}))) == {"late/1": 0.9, "late/2": 0.1}
