"""Recall in a replay: the vehicles example, with fewer rows."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from examples.vehicles.make_data import make_rows
from tidemill.backtest.findings import list_return_lines
from tidemill.backtest.period import choose_period
from tidemill.backtest.replay import Replay
from tidemill.backtest.summary import summarize
from tidemill.core.route import Route
from tidemill.project.project import Project
from tidemill.registry.regimes import list_kept_releases, list_regimes

EXAMPLE = Path(__file__).parents[2] / "examples" / "vehicles"
FIRST, SECOND = 900, 600


def replay_vehicles(folder: Path) -> Replay:
    """Replay model A, then B, then A again; the rows come every two minutes, labels half an hour later."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", ".tidemill", "__pycache__"))
    (folder / "data").mkdir()
    make_rows((("A", FIRST), ("B", SECOND), ("A", 200))).write_parquet(folder / "data" / "vehicles.parquet")
    project = Project(folder)
    replay = Replay(
        project, project.policy, "", choose_period(project, "", "2026-01-06", ""), folder / "loop", lambda *_: None
    )
    replay.run()
    return replay


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return replay_vehicles(tmp_path_factory.mktemp("recalled") / "vehicles")


def list_routes(replay: Replay) -> list[Route]:
    return sorted(replay.books.routes.find(), key=lambda route: route.version)


def find_row(replay: Replay, time: datetime) -> int:
    """Return the number of rows before a time."""
    begin = datetime.fromisoformat("2026-01-05T00:00:00+00:00")
    return (time - begin) // timedelta(minutes=2)


def test_a_returns_within_25_rows_and_without_a_training(replay: Replay) -> None:
    *_, b, a = list_routes(replay)
    assert (a.change, a.arms[0].release) == ("recall", "vehicles/1")
    assert 0 < find_row(replay, a.since) - (FIRST + SECOND) <= 25
    assert b.change == "direct"
    assert not [run for run in replay.books.runs.find(pipeline="training") if run.started > a.since]


def test_b_is_trained_on_its_own_rows_after_its_first_labels(replay: Replay) -> None:
    requested = replay.books.verdicts.find(check="regime", action="retrain")[0]
    assert requested.evidence["of_regime"] >= 300
    start = datetime.fromisoformat(requested.evidence["start"])
    assert abs(find_row(replay, start) - FIRST) <= 3
    package = replay.session.packages.load(list_routes(replay)[1].arms[0].package)
    assert package.manifest.trained_on.trained_from == start


def test_the_regimes_name_the_release_to_keep(replay: Replay) -> None:
    regimes = list_regimes(replay.books, "backtest", "vehicles")
    assert [len(regime.tenures) for regime in regimes] in ([2, 1], [2, 2])
    assert regimes[0].is_current
    assert list_kept_releases(replay.books, "backtest", "vehicles") == {
        "vehicles/1",
        regimes[1].releases[-1],
    }


def test_the_look_that_recalled_says_why(replay: Replay) -> None:
    verdict = replay.books.verdicts.get(list_routes(replay)[-1].verdict)
    assert (verdict.check, verdict.action, verdict.reference) == ("regime", "recall", "vehicles/1")
    assert verdict.evidence["by"] == "features"
    assert "vehicles/1" in verdict.reason


def test_the_report_states_the_blind_spot_with_and_without_a_recall(replay: Replay) -> None:
    result = summarize("loop", replay, 0.0)
    (found,) = result.returns
    assert (found.release, found.by) == ("vehicles/1", "features")
    assert found.rows <= 25
    assert found.rows_to_training is None, "the period ends before a training could help"
    assert "vehicles/1 was recalled after" in list_return_lines(result)[0]
