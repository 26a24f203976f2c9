"""Back ends of another package: named by a URL, they serve a day of flights, a backup and a restore."""

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.compose.memory import MemoryJournal, MemoryOnline, memory_server, write_distribution
from tidemill import plugin
from tidemill.clock import VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.compose.session import open_session, predict
from tidemill.errors import Conflict, InputError
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.serving.service import Service
from tidemill.testing.journal import rows
from tidemill.upkeep.backup import BackupOrigin, back_up
from tidemill.upkeep.restore import restore

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
MORNING = datetime(2013, 2, 14, 11, tzinfo=UTC)
REQUEST = ["flight_id", "scheduled_departure", "carrier", "origin", "dest", "hour", "minute", "weekday", "distance"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server in whose memory stores are kept; what opens them is installed."""
    site = tmp_path / "site"
    site.mkdir()
    write_distribution(site)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    plugin._find_group.cache_clear()
    with memory_server() as url:
        yield url
    plugin._find_group.cache_clear()


def flights_until(folder: Path, moment: datetime) -> Project:
    """The flights project with the files as they were at a moment."""
    shutil.copytree(FLIGHTS, folder, ignore=shutil.ignore_patterns("data", ".tidemill", "planted", "__pycache__"))
    (folder / "data").mkdir()
    for name, time in (("flights", "scheduled_departure"), ("weather", "known_at"), ("planes", "")):
        frame = pl.read_parquet(FLIGHTS / "data" / f"{name}.parquet")
        file = folder / "data" / f"{name}.parquet"
        (frame.filter(pl.col(time) < moment) if time else frame).write_parquet(file)
        os.utime(file, (moment.timestamp(), moment.timestamp()))
    return Project(folder)


def done(session: Session, name: str) -> None:
    finished, error = run(session, session.project.code.pipeline(name))
    assert error is None, error
    assert finished.state == "done"


def test_a_day_of_flights(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_ONLINE", f"{server}/online")
    monkeypatch.setenv("TIDEMILL_JOURNAL", f"{server}/journal")
    clock = VirtualClock(MORNING)
    session = open_session(flights_until(tmp_path / "flights", MORNING), clock=clock)
    assert isinstance(session.workspace.online, MemoryOnline)
    assert isinstance(session.workspace.journal, MemoryJournal)
    for name in ("ingestion", "training", "materialization"):
        done(session, name)
    (arm,) = session.workspace.board.routes()["flights"].arms
    assert (arm.release, arm.role) == ("flights/1", "champion")

    today = pl.read_parquet(FLIGHTS / "data" / "flights.parquet").filter(
        pl.col("scheduled_departure").is_between(MORNING, MORNING + timedelta(days=1)), pl.col("late").is_not_null()
    )
    asked = [*REQUEST, "scheduled_minutes", "tailnum"]
    answers = predict(session, today.select(asked))
    assert answers.height == today.height > 500
    served = answers["features"].struct.unnest()
    for view in session.project.model("flights").inputs.views:
        names = [name for name in session.project.code.views[view].features if name in served.columns]
        assert any(served[name].null_count() < served.height for name in names), f"nothing was found in {view}"

    clock.advance(MORNING + timedelta(days=1, hours=12))
    service = Service(session.workspace.board, session.packages, session.workspace.journal, None, clock)
    service.refresh()
    service.add_labels("flights", today.select(answers["id"], pl.col("late").alias("value")))
    done(session, "watching")
    (judged,) = session.workspace.ledger.verdicts.find(check="performance")
    assert (judged.evidence["metric"], judged.evidence["rows"]) == ("log_loss", today.height)
    assert session.workspace.journal.kinds() == ["labels/flights", "predictions/flights"]
    state = session.workspace.state_folder
    kept = {".routes.store", "routes", ".tables.store", "tables"}
    assert {file.name for file in state.iterdir()} == kept, "nothing else is kept in files"


def test_a_backup_goes_from_back_ends_to_files_of_the_same_kind(tmp_path: Path, server: str) -> None:
    urls = {"online": f"{server}/online", "journal": f"{server}/journal"}
    here = open_workspace(tmp_path / "here", urls=urls)
    here.journal.append("labels/late", rows(MORNING, value=[1]))
    here.online.write("weather", [("JFK", MORNING, {"wind": 3.5})])
    here.for_environment("test").journal.append("labels/late", rows(MORNING, value=[2]))
    with (tmp_path / "b.tar").open("wb") as sink:
        back_up(here, sink, BackupOrigin("1", "late", ""), MORNING)
    with (tmp_path / "b.tar").open("rb") as source, pytest.raises(Conflict, match="not empty"):
        restore(open_workspace(tmp_path / "here", urls=urls), source, MORNING, force=True)
    there = open_workspace(tmp_path / "there", urls={"online": f"{server}/o", "journal": f"{server}/j"})
    with (tmp_path / "b.tar").open("rb") as source:
        restore(there, source, MORNING)
    assert there.journal.read("labels/late")["value"].to_list() == [1]
    assert there.for_environment("test").journal.read("labels/late")["value"].to_list() == [2]
    assert there.online.read("weather", ["JFK"]) == [(MORNING, {"wind": 3.5})]


def test_an_unknown_scheme_is_refused_with_the_known_ones(tmp_path: Path, server: str) -> None:
    workspace = open_workspace(tmp_path, urls={"online": "redish://localhost", "board": f"{server}/board"})
    with pytest.raises(InputError, match="redish") as refused:
        _ = workspace.online
    assert "sqlite:" in refused.value.cure
    assert "memory:" in refused.value.cure
    with pytest.raises(InputError, match="memory"):
        _ = workspace.board
