"""A source whose known-at time is wrong is found by laying what was served beside what a backtest would give."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.projects import tidemill
from tidemill.backtest.skew import find_leaks, said_of
from tidemill.clock import VirtualClock
from tidemill.compose.session import open_session
from tidemill.core.run import Run
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
    """Calls are urgent where the report of their hour is high, but a report is published six hours late."""
    (folder / "data" / "calls").mkdir(parents=True)
    chance = np.random.default_rng(5)
    hours = [START + timedelta(hours=hour) for hour in range(24 * 24)]
    level = np.empty(len(hours))
    level[0] = 0.0
    for hour in range(1, len(hours)):  # an hour resembles the one before it
        level[hour] = 0.9 * level[hour - 1] + chance.normal()
    pl.DataFrame({"hour": hours, "desk": "a", "level": level}).with_columns(
        published=pl.col("hour") + pl.duration(hours=6)
    ).write_parquet(folder / "data" / "reports.parquet")
    place = np.repeat(np.arange(len(hours)), 4)
    calls = pl.DataFrame(
        {
            "call": [f"c{number}" for number in range(len(place))],
            "called": [hours[one] for one in place],
            "desk": "a",
            "length": chance.normal(size=len(place)),
            "urgent": level[place] + chance.normal(scale=0.5, size=len(place)) > 0,
        }
    )
    for name, until in (("first", LIVE), ("second", END)):
        file = folder / "data" / "calls" / f"{name}.parquet"
        calls.filter(pl.col("called") < until, (pl.col("called") >= LIVE) | (name == "first")).write_parquet(file)
        os.utime(file, (until.timestamp(), until.timestamp()))  # a file has arrived when it was written
    (folder / "features.py").write_text(FEATURES)
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "tidemill.toml").write_text(POLICY.format(known=known))
    return Project(folder)


def train_and_serve(project: Project) -> None:
    """A model trained on the joined history, then served for four days with what was really published by then."""
    clock = VirtualClock(LIVE)
    session = open_session(project, "production", clock, given={})
    trained: Run
    trained, failed = run(session, project.code.pipeline("training"), {"until": LIVE})
    assert failed is None, trained.error
    workspace = session.workspace
    online = workspace.online
    service = Service(workspace.board, session.packages, workspace.journal, Lookup(online), clock)
    service.refresh()
    true = project.policy.sources["reports"]
    true = type(true)(path=true.path, time="hour", known_at="published")
    published = FileSources(project.folder, {"reports": true})
    (view,) = project.features(project.model("")).views
    calls = FileSources(project.folder, project.policy.sources).source_history("calls")
    for hours in range(1, 24 * 4):
        clock.advance(LIVE + timedelta(hours=hours))
        materialize(view, published, online, clock.now())
        rows = calls.filter(pl.col(TIME) == clock.now())
        service.predict("desk", rows.select("call", "called", "desk", "length"))
        labels = rows.select("call", "called", "urgent").rename({"call": "key", "called": "time", "urgent": "value"})
        service.add_labels("desk", labels.with_columns(pl.col("value").cast(pl.String)))


def test_a_source_that_claims_to_be_known_too_early_is_found(tmp_path: Path) -> None:
    project = make_desk(tmp_path / "desk", 'delay = "0s"')
    train_and_serve(project)
    found = find_leaks(project, "production", "")
    assert [one.feature for one in found.differing] == ["report_level"]
    assert found.flatters
    assert found.joined is not None
    assert found.live is not None
    assert found.joined < found.live - 0.05
    assert "flatters" in said_of(found)
    told = tidemill(project.folder, "backtest", "--leaks", code=3).stdout
    assert "report_level" in told


def test_a_source_that_tells_the_truth_is_not_accused(tmp_path: Path) -> None:
    project = make_desk(tmp_path / "desk", 'known_at = "published"')
    train_and_serve(project)
    found = find_leaks(project, "production", "")
    assert found.compared == found.predictions == 95 * 4
    assert [one.differ for one in found.skews] == [0]
    assert not found.leaks
    tidemill(project.folder, "backtest", "--leaks", "--json")


def test_without_answers_there_is_nothing_to_compare(tmp_path: Path) -> None:
    project = make_desk(tmp_path / "desk", 'delay = "0s"')
    with pytest.raises(InputError) as refused:
        find_leaks(project, "production", "")
    assert "no answers" in refused.value.problem
