"""Reminders of the daemon: each item that needs a person is reported once, and an alert names the stopped file."""

from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.core.trigger import Job
from tidemill.daemon.reminders import Reminders
from tidemill.project.project import Project


def test_a_stopped_file_is_reported_once_and_named_in_an_alert(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = make_project(tmp_path / "shop", replace={'path = "data/shop.csv"': 'path = "data/*.csv"'}).folder
    tidemill(shop, "run", "ingestion")
    orders = pl.read_csv(shop / "data" / "shop.csv").head(100)
    orders.with_columns(order_id=pl.lit("n") + pl.col("order_id"), distance_km=pl.lit(1e9)).write_csv(
        shop / "data" / "far.csv"
    )
    tidemill(shop, "run", "ingestion", code=3)
    session = open_session(Project(shop))
    reminders = Reminders(session)
    lines = [line for line in reminders.list_new() if "data/far.csv" in line]
    (line,) = lines
    assert line.startswith("needs a person: data/far.csv of source rows was stopped: 100 rows are not in the table")
    assert line.endswith("tidemill data accept rows --reason …")
    assert reminders.list_new() == []

    (run,) = session.workspace.ledger.runs.find(pipeline="ingestion", state="stopped")
    job = Job(
        id="j", trigger="new data", dedupe_key="k", pipeline="ingestion", environment="production", state="running",
        created=run.started, available=run.started,
    )  # fmt: skip
    reminders.alert_stopped_batches(replace(job, run=run.id))
    assert "rows data/far.csv: was stopped: column 'distance_km'" in caplog.text


def test_a_file_that_cannot_be_read_is_not_proposed_for_acceptance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = make_project(tmp_path / "shop", replace={'path = "data/shop.csv"': 'path = "data/*.csv"'}).folder
    (shop / "data" / "cut.csv").write_bytes(b"order_id,\xff\xfe\n1,2,3,4\n")
    tidemill(shop, "run", "ingestion", code=3)
    session = open_session(Project(shop))
    (line,) = [line for line in Reminders(session).list_new() if "cut.csv" in line]
    assert "tidemill data withdraw rows/cut.csv@" in line
    assert "data accept" not in line
    (run,) = session.workspace.ledger.runs.find(pipeline="ingestion", state="stopped")
    job = Job(
        id="j", trigger="new data", dedupe_key="k", pipeline="ingestion", environment="production", state="running",
        created=run.started, available=run.started, run=run.id,
    )  # fmt: skip
    Reminders(session).alert_stopped_batches(job)
    assert "cut.csv: was stopped: it cannot be read" in caplog.text
    assert "data accept" not in caplog.text
