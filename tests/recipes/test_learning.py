"""The learning recipe: labels of the service, learned once each, through the gate, to a release in production."""

import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.learners import BEGIN, MODEL, flip, make_readings, write_sensors
from tests.projects import tidemill
from tidemill.clock import VirtualClock
from tidemill.compose.session import open_session
from tidemill.core.model import Model
from tidemill.errors import ConfigurationError, DataError, Stopped
from tidemill.flow.engine import run
from tidemill.models.flavors.river import OpenLearner
from tidemill.models.load import load
from tidemill.monitoring.learned import read_learning
from tidemill.project.project import Project
from tidemill.registry.routing import find_current_route
from tidemill.serving.service import Service

NOW = BEGIN + timedelta(days=20)


class Sensors:
    """The project of `tests.learners`, with its service, on a virtual clock."""

    def __init__(self, project: Project) -> None:
        self.clock = VirtualClock(NOW)
        self.session = open_session(project, clock=self.clock)
        workspace = self.session.workspace
        self.books, self.journal = workspace.ledger, workspace.journal
        self.service = Service(workspace.board, self.session.packages, workspace.journal, None, self.clock)

    def run(self, pipeline: str) -> None:
        self.clock.sleep(60)
        _, failed = run(self.session, self.session.project.code.pipeline(pipeline))
        self.service.refresh()
        if failed:
            raise failed

    def champion(self) -> tuple[str, Model]:
        route = find_current_route(self.books, "production", MODEL)
        arm = route.arm("champion") if route else None
        assert arm is not None
        return arm.release, self.session.packages.load(arm.package)

    def serve(self, readings: pl.DataFrame, name: str) -> pl.DataFrame:
        """Request predictions, one second apart."""
        self.clock.sleep(1)
        times = pl.Series("read_at", [self.clock.now() + timedelta(seconds=i) for i in range(readings.height)])
        keys = pl.Series("reading", [f"{name}{index}" for index in range(readings.height)])
        served = self.service.predict(MODEL, readings.drop("alarm").with_columns(times, keys))
        self.clock.sleep(readings.height)
        return served

    def label(self, served: pl.DataFrame, values: pl.Series, *, by_id: bool = True) -> None:
        names = served.select("id") if by_id else served.select("key", "time")
        self.service.add_labels(MODEL, names.with_columns(values.alias("value")))

    def serve_labelled(self, name: str, rows: int = 200, seed: int = 1, weight: float = 2.0) -> pl.DataFrame:
        readings = make_readings(rows, seed, weight=weight)
        served = self.serve(readings, name)
        self.label(served, readings["alarm"])
        return served

    def gate(self) -> Any:
        return self.books.verdicts.find(check="gate", newest=True, limit=1)[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with its first release, for copies."""
    folder = tmp_path_factory.mktemp("trained") / "sensors"
    Sensors(write_sensors(folder)).run("training")
    return folder


@pytest.fixture
def sensors(trained: Path, tmp_path: Path) -> Sensors:
    shutil.copytree(trained, tmp_path / "sensors")
    copied = Sensors(Project(tmp_path / "sensors"))
    copied.clock.sleep(60)
    copied.service.refresh()
    return copied


def log_loss(sensors: Sensors, readings: pl.DataFrame) -> float:
    probabilities = load(sensors.champion()[1]).predict(readings).probabilities
    assert probabilities is not None
    truth = (readings["alarm"] == "yes").to_numpy().astype(int)
    return float(-np.log(probabilities[np.arange(len(truth)), truth]).mean())


def test_a_training_releases_a_learner_and_labels_change_what_it_serves(sensors: Sensors) -> None:
    label, first = sensors.champion()
    assert (label, first.manifest.flavor, first.manifest.trusted) == ("sensors/1", "river", True)
    new_concept = make_readings(400, 99, weight=2.0)
    before = log_loss(sensors, new_concept)
    sensors.serve_labelled("a")
    sensors.run("learning")
    label, second = sensors.champion()
    assert label == "sensors/2"
    assert log_loss(sensors, new_concept) < before - 0.1
    evidence = sensors.gate().evidence
    assert evidence["learned_rows"] == 200
    assert evidence["test_then_train_loss"] < evidence["loss_without_learning"]
    learned = read_learning(second.manifest)
    assert learned is not None
    assert (learned.rows, learned.all_rows) == (200, 200)
    assert second.manifest.trained_on.rows == first.manifest.trained_on.rows + 200


def test_each_row_is_learned_once(sensors: Sensors) -> None:
    """The state after two updates is that of one learner that saw every row once, in the order of the labels."""
    _, first = sensors.champion()
    readings = [make_readings(150, seed, weight=2.0) for seed in (1, 2)]
    for name, part in zip("ab", readings, strict=True):
        served = sensors.serve(part, name)
        sensors.label(served, part["alarm"])
        sensors.clock.sleep(1)
        sensors.label(served, part["alarm"], by_id=False)  # the same outcome again, by key and time
        sensors.run("learning")
    label, last = sensors.champion()
    assert label == "sensors/3"
    alone = OpenLearner(first).learner
    for row in pl.concat(readings).to_dicts():
        alarm = row.pop("alarm")
        alone.learn_one({name: row[name] for name in ("temperature", "humidity", "room")}, alarm == "yes")
    weights, expected = (learner.steps["LogisticRegression"].weights for learner in (OpenLearner(last).learner, alone))
    assert dict(weights) == pytest.approx(dict(expected))
    with pytest.raises(Stopped, match="0 labelled rows are new"):
        sensors.run("learning")


def test_a_correction_of_a_learned_label_is_not_learned_again(sensors: Sensors) -> None:
    served = sensors.serve_labelled("a")
    sensors.run("learning")
    sensors.clock.advance(sensors.clock.now() + timedelta(days=30))
    later = sensors.serve_labelled("b", seed=3)
    sensors.run("learning")  # the digests of the first rows are older than seven days now
    sensors.label(served, pl.Series(["yes"] * served.height))
    with pytest.raises(Stopped, match="0 labelled rows are new"):
        sensors.run("learning")
    assert later.height == 200


def test_labels_that_a_training_with_feedback_learned_are_not_learned_again(tmp_path: Path) -> None:
    sensors = Sensors(write_sensors(tmp_path / "sensors", replace={'test = "2d"': 'test = "2d"\nfeedback = true'}))
    sensors.run("training")
    sensors.serve_labelled("a", rows=120)
    sensors.clock.sleep(60)
    sensors.run("training")
    with pytest.raises(Stopped, match="0 labelled rows are new"):
        sensors.run("learning")


def test_rows_of_the_training_table_are_not_learned_again(sensors: Sensors) -> None:
    history = pl.read_csv(sensors.session.project.folder / "data" / "rows.csv", try_parse_dates=True)
    served = sensors.service.predict(MODEL, history.drop("alarm").head(150))
    sensors.label(served, history["alarm"].head(150))
    with pytest.raises(Stopped, match="0 labelled rows are new"):
        sensors.run("learning")


def test_wrong_labels_are_refused_and_their_corrections_are_learned(sensors: Sensors) -> None:
    readings = make_readings(160, 5, weight=0.0)
    served = sensors.serve(readings, "a")
    sensors.label(served, pl.Series([flip(alarm) for alarm in readings["alarm"]]))
    with pytest.raises(Stopped, match="not better than the trivial baseline"):
        sensors.run("learning")
    assert sensors.champion()[0] == "sensors/1"
    sensors.label(served, readings["alarm"])
    more = make_readings(600, 6, weight=0.0)
    sensors.label(sensors.serve(more, "b"), more["alarm"])
    sensors.run("learning")
    label, model = sensors.champion()
    assert label == "sensors/2"
    learned = read_learning(model.manifest)
    assert learned is not None
    assert learned.rows == 760


def test_a_state_that_learned_wrong_labels_is_refused_on_right_ones(sensors: Sensors) -> None:
    readings = make_readings(300, 7, weight=0.0)
    served = sensors.serve(readings, "a")
    values = [flip(alarm) if index < 150 else alarm for index, alarm in enumerate(readings["alarm"])]
    for half in (slice(0, 150), slice(150, 300)):
        sensors.clock.sleep(1)
        sensors.label(served[half], pl.Series(values[half]))
    with pytest.raises(Stopped, match="worse than the champion"):
        sensors.run("learning")
    assert sensors.champion()[0] == "sensors/1"


def test_too_few_rows_wait(sensors: Sensors) -> None:
    sensors.serve_labelled("a", rows=40)
    with pytest.raises(Stopped, match="40 labelled rows are new to the champion; an update needs 100"):
        sensors.run("learning")
    sensors.serve_labelled("b", rows=160, seed=2)
    sensors.run("learning")
    assert sensors.gate().evidence["learned_rows"] == 200


def test_an_update_is_a_canary_where_the_policy_says_so(tmp_path: Path) -> None:
    sensors = Sensors(write_sensors(tmp_path / "sensors", replace={"canary = false": "canary = true"}))
    sensors.run("training")
    sensors.serve_labelled("a")
    sensors.run("learning")
    route = find_current_route(sensors.books, "production", MODEL)
    assert route is not None
    assert [(arm.release, arm.role) for arm in route.arms] == [
        ("sensors/1", "champion"),
        ("sensors/2", "challenger"),
        ("sensors/2", "shadow"),
    ]


def test_without_a_champion_there_is_an_error_with_a_cure(tmp_path: Path) -> None:
    sensors = Sensors(write_sensors(tmp_path / "sensors"))
    with pytest.raises(DataError, match="has no champion that could learn"):
        sensors.run("learning")


def test_a_champion_that_cannot_learn_is_an_error_with_a_cure(tmp_path: Path) -> None:
    sensors = Sensors(write_sensors(tmp_path / "sensors", replace={'estimator = "learner:create"': ""}))
    sensors.run("training")
    with pytest.raises(ConfigurationError, match="lightgbm model, which cannot learn single rows"):
        sensors.run("learning")


def test_a_label_that_a_client_dates_back_is_learned_too(sensors: Sensors) -> None:
    readings = make_readings(201, 1, weight=2.0)
    served = sensors.serve(readings, "a")
    begin = sensors.clock.now()
    sensors.label(served[:200], readings["alarm"][:200])
    sensors.run("learning")
    late = (
        served[200:]
        .select("id")
        .with_columns(
            value=readings["alarm"][200:], known_at=pl.lit(begin - timedelta(seconds=5), pl.Datetime("us", "UTC"))
        )
    )
    sensors.service.add_labels(MODEL, late)
    with pytest.raises(Stopped, match="1 labelled rows are new"):
        sensors.run("learning")


@pytest.mark.parametrize("point", ["step has run#3", "release is registered"])
def test_a_run_that_is_killed_and_resumed_learns_each_row_once(sensors: Sensors, point: str) -> None:
    served = sensors.serve_labelled("a")
    folder = sensors.session.project.folder
    words = [sys.executable, "-m", "tidemill", "run", "learning"]
    killed = subprocess.run(words, cwd=folder, env=os.environ | {"TIDEMILL_FAULT": point}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    tidemill(folder, "runs", "resume", sensors.books.runs.find(pipeline="learning")[0].id)
    label, model = sensors.champion()
    learned = read_learning(model.manifest)
    assert learned is not None
    assert (label, learned.rows, learned.all_rows) == ("sensors/2", served.height, served.height)
    again = tidemill(folder, "run", "learning", code=3)
    assert "0 labelled rows are new to the champion" in again.stderr + again.stdout


def test_a_transformation_that_replaces_a_column_is_learned_as_it_is_served(tmp_path: Path) -> None:
    project = write_sensors(tmp_path / "sensors")
    (project.folder / "features.py").write_text(_TRANSFORMATION)
    sensors = Sensors(Project(project.folder))
    sensors.run("training")
    _, first = sensors.champion()
    readings = make_readings(120, 1, weight=2.0)
    sensors.label(sensors.serve(readings, "a"), readings["alarm"])
    sensors.run("learning")
    alone = OpenLearner(first).learner
    for row in readings.with_columns(pl.col("humidity") / 100).to_dicts():
        alone.learn_one({name: row[name] for name in ("temperature", "humidity", "room")}, row["alarm"] == "yes")
    weights = OpenLearner(sensors.champion()[1]).learner.steps["LogisticRegression"].weights
    assert dict(weights) == pytest.approx(dict(alone.steps["LogisticRegression"].weights))


_TRANSFORMATION = """
import polars as pl

from tidemill import transformation


@transformation
def humidity(humidity: pl.Series) -> pl.Series:
    return humidity / 100
"""
