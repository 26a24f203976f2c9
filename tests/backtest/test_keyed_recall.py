"""A key that names the regimes, in a replay: the vehicles example with a column for the vehicle model."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from examples.vehicles.make_data import make_named_rows
from tidemill.backtest.period import choose_period
from tidemill.backtest.replay import Replay
from tidemill.core.columns import ROW_ID
from tidemill.core.route import Route
from tidemill.project.project import Project
from tidemill.registry.bindings import ReleaseRegime, read_regime
from tidemill.registry.regimes import list_kept_releases, list_recallable, list_regimes

EXAMPLE = Path(__file__).parents[2] / "examples" / "vehicles"
ALONE, MIXED = 720, 1_000


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Replay model A alone, then mixed rows of A and B; the column `vehicle` is no input of the model."""
    folder = tmp_path_factory.mktemp("named") / "vehicles"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", ".tidemill", "__pycache__"))
    (folder / "data").mkdir()
    make_named_rows(ALONE, MIXED).write_parquet(folder / "data" / "vehicles.parquet")
    policy = (folder / "tidemill.toml").read_text()
    policy = policy.replace("[regimes] ", '[inputs]\nexclude = ["vehicle"]\n\n[regimes]\nkey = "vehicle" ')
    policy = policy.replace("rows = 15\n", "rows = 60\n").replace("[training]\n", "[training]\nrounds = 60\n")
    (folder / "tidemill.toml").write_text(policy)
    project = Project(folder)
    replay = Replay(
        project, project.policy, "", choose_period(project, "", "2026-01-06", ""), folder / "loop", lambda *_: None
    )
    replay.run()
    return replay


@pytest.fixture(scope="module")
def served(replay: Replay) -> pl.DataFrame:
    """The rows that were served, with the vehicle model of the source and whether the prediction was right."""
    vehicles = replay.features.rows.select(pl.col(ROW_ID).alias("key"), "vehicle", "repair")
    rows = replay.read_predictions().join(vehicles, on="key", how="left", maintain_order="left")
    return rows.with_columns(right=pl.col("value") == pl.col("repair"))


def list_routes(replay: Replay) -> list[Route]:
    return sorted(replay.books.routes.find(), key=lambda route: route.version)


def test_b_is_bound_to_a_release_of_its_own_rows_and_a_stays_with_the_champion(replay: Replay) -> None:
    first, bound = list_routes(replay)
    assert (first.key, first.bound) == ("vehicle", ())
    assert bound.change == "bind"
    assert [(arm.release, arm.role, arm.value) for arm in bound.arms] == [
        ("vehicles/1", "champion", ""),
        ("vehicles/2", "bound", "B"),
    ]
    release = replay.books.releases.find(name="vehicles", newest=True, limit=1)[0]
    assert read_regime(release.data) == ReleaseRegime(key="vehicle", value="B")
    only_b = replay.features.rows.filter(vehicle="B")
    assert release.data["rows"] < only_b.height, "it was trained on rows of B only"


def test_each_row_of_mixed_traffic_is_served_by_the_release_of_its_vehicle(
    replay: Replay, served: pl.DataFrame
) -> None:
    assert served["regime"].to_list() == served["vehicle"].to_list()
    after = served.filter(pl.col("known_at") > list_routes(replay)[-1].since)
    assert dict(after.group_by("vehicle", "release").len().select("vehicle", "release").rows()) == {
        "A": "vehicles/1",
        "B": "vehicles/2",
    }
    assert set(after.filter(vehicle="B")["role"]) == {"bound"}


def test_the_bound_release_is_better_on_its_rows(replay: Replay, served: pl.DataFrame) -> None:
    is_after = pl.col("known_at") > list_routes(replay)[-1].since
    of_b = served.filter(vehicle="B")
    assert of_b.filter(is_after)["right"].mean() > of_b.filter(~is_after)["right"].mean() + 0.2  # type: ignore[operator]


def test_where_a_model_of_all_rows_is_as_good_nothing_is_bound_and_the_run_stops(replay: Replay) -> None:
    judged = replay.books.verdicts.find(check="binding", subject="vehicles")
    assert {verdict.evidence["value"]: verdict.action for verdict in judged} == {"A": "stop", "B": "proceed"}


def test_the_regimes_name_the_value_and_no_recall_uses_its_release(replay: Replay) -> None:
    regimes = list_regimes(replay.books, "backtest", "vehicles")
    assert [(regime.value, regime.releases, regime.is_current) for regime in regimes] == [
        ("", ("vehicles/1",), True),
        ("B", ("vehicles/2",), True),
    ]
    assert list_kept_releases(replay.books, "backtest", "vehicles") == {"vehicles/1", "vehicles/2"}
    assert list_recallable(replay.books, "backtest", "vehicles") == []


def test_the_watch_judges_the_bound_release_on_its_rows(replay: Replay) -> None:
    verdicts = replay.books.verdicts.find(check="binding", subject="vehicles/2")
    assert verdicts
    assert verdicts[-1].evidence["value"] == "B"
    assert verdicts[-1].outcome in ("pass", "undecided")
    assert not replay.books.verdicts.find(check="age", subject="vehicles/2")
