"""A wrong known-at time is detected by comparing served features with the features of a backtest."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.projects import tidemill
from tidemill.backtest.skew import _match_source_rows, find_join_leaks, format_leak_report
from tidemill.clock import VirtualClock
from tidemill.compose.session import open_session
from tidemill.core.run import Run
from tidemill.core.source import Source
from tidemill.data.frame import TIME
from tidemill.data.source import FileSources
from tidemill.errors import InputError
from tidemill.featurestore.lookup import Lookup
from tidemill.featurestore.materialize import materialize
from tidemill.flow.engine import run
from tidemill.project.project import Project
from tidemill.serving.service import Service

START = datetime(2026, 1, 1, tzinfo=UTC)
LIVE = START + timedelta(days=20)
END = START + timedelta(days=24)
POLICY = """
[project]
name = "desk"

[problem]
decision = "Call somebody in"
source = "calls"
label = "urgent"
metric = "log_loss"

[sources.calls]
path = "data/calls/*.parquet"
time = "called"
key = ["call"]

[sources.reports]
path = "data/reports.parquet"
time = "hour"
{known}

[inputs]
request = ["length"]
views = ["report"]

[training]
test = "3d"
rounds = 20

[[watch.values]]
value = "age"
limit = 99.0
action = "retrain"
"""
FEATURES = """
from tidemill import Entity, FeatureView

report = FeatureView(name="report", entity=Entity("desk", ("desk",)), source="reports", columns=("level",))
"""
PIPELINE = "from tidemill.recipes import training\n"


def make_desk(folder: Path, known: str) -> Project:
    """Create a project whose calls are urgent if the report of their hour is high; reports arrive six hours late."""
    (folder / "data" / "calls").mkdir(parents=True)
    chance = np.random.default_rng(5)
    hours = [START + timedelta(hours=hour) for hour in range(24 * 24)]
    level = np.empty(len(hours))
    level[0] = 0.0
    for hour in range(1, len(hours)):  # consecutive hours are correlated
        level[hour] = 0.9 * level[hour - 1] + chance.normal()
    pl.DataFrame({"hour": hours, "desk": "a", "level": level}).with_columns(
        published=pl.col("hour") + pl.duration(hours=6)
    ).write_parquet(folder / "data" / "reports.parquet")
    hour_index = np.repeat(np.arange(len(hours)), 4)
    calls = pl.DataFrame(
        {
            "call": [f"c{number}" for number in range(len(hour_index))],
            "called": [hours[index] for index in hour_index],
            "desk": "a",
            "length": chance.normal(size=len(hour_index)),
            "urgent": level[hour_index] + chance.normal(scale=0.5, size=len(hour_index)) > 0,
        }
    )
    for name, until in (("first", LIVE), ("second", END)):
        file = folder / "data" / "calls" / f"{name}.parquet"
        calls.filter(pl.col("called") < until, (pl.col("called") >= LIVE) | (name == "first")).write_parquet(file)
        os.utime(file, (until.timestamp(), until.timestamp()))  # the arrival time of a file is its modification time
    (folder / "features.py").write_text(FEATURES)
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "tidemill.toml").write_text(POLICY.format(known=known))
    return Project(folder)


def train_and_serve(project: Project) -> None:
    """Train a model on the joined history, then serve it for four days with the reports published by then."""
    clock = VirtualClock(LIVE)
    session = open_session(project, "production", clock, replacements={})
    trained: Run
    trained, failed = run(session, project.code.pipeline("training"), {"until": LIVE})
    assert failed is None, trained.error
    workspace = session.workspace
    online = workspace.online
    service = Service(workspace.board, session.packages, workspace.journal, Lookup(online), clock)
    service.refresh()
    declared = project.policy.sources["reports"]
    correct = type(declared)(path=declared.path, time="hour", known_at="published")
    published = FileSources(project.folder, {"reports": correct})
    (view,) = project.features(project.model("")).views
    calls = FileSources(project.folder, project.policy.sources).source_history("calls")
    for hours in range(1, 24 * 4):
        clock.advance(LIVE + timedelta(hours=hours))
        materialize(view, published, online, clock.now())
        rows = calls.filter(pl.col(TIME) == clock.now())
        service.predict("desk", rows.select("call", "called", "desk", "length"))
        labels = rows.select("call", "called", "urgent").rename({"call": "key", "called": "time", "urgent": "value"})
        service.add_labels("desk", labels.with_columns(pl.col("value").cast(pl.String)))


def test_a_known_at_time_that_is_too_early_is_detected(tmp_path: Path) -> None:
    project = make_desk(tmp_path / "desk", 'delay = "0s"')
    train_and_serve(project)
    report = find_join_leaks(project, "production", "")
    assert [skew.feature for skew in report.differing] == ["report_level"]
    assert report.is_too_optimistic
    assert report.joined is not None
    assert report.live is not None
    assert report.joined < report.live - 0.05
    assert "too optimistic" in format_leak_report(report)
    printed = tidemill(project.folder, "backtest", "--leaks", code=3).stdout
    assert "report_level" in printed


def test_a_correct_known_at_time_is_not_reported(tmp_path: Path) -> None:
    project = make_desk(tmp_path / "desk", 'known_at = "published"')
    train_and_serve(project)
    report = find_join_leaks(project, "production", "")
    assert report.compared == report.predictions == 95 * 4
    assert [skew.differ for skew in report.skews] == [0]
    assert not report.has_leaks
    tidemill(project.folder, "backtest", "--leaks", "--json")


def test_a_journal_without_predictions_is_an_error(tmp_path: Path) -> None:
    project = make_desk(tmp_path / "desk", 'delay = "0s"')
    with pytest.raises(InputError) as refused:
        find_join_leaks(project, "production", "")
    assert "no predictions" in refused.value.problem


def test_a_source_may_have_columns_named_like_those_of_the_journal() -> None:
    predictions = pl.DataFrame({"key": ["1"], "time": [START], "release": ["m/1"]})
    history = pl.DataFrame({"key": [2, 1], "time": ["x", "y"], "release": ["r", "s"], TIME: [START, START]})
    matched, rows = _match_source_rows(predictions, history, Source(path="x", key=("key",)))
    assert matched.rows() == [("1", START, "m/1")]
    assert rows.rows() == [(1, "y", "s", START)]
