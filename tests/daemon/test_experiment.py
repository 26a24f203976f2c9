"""Retrainings in vain, from the trigger to the message: a person is asked once, with what became of each."""

import base64
from pathlib import Path
from typing import Any

import polars as pl

from tests.monitoring.test_alerts import Receiver
from tests.monitoring.test_alerts import receiver as receiver
from tests.projects import make_project
from tidemill.clock import SystemClock, VirtualClock
from tidemill.compose.session import open_session
from tidemill.core.policy import Policy
from tidemill.core.trigger import Job, JobState
from tidemill.daemon.loop import Loop, to_job_state
from tidemill.flow.engine import run
from tidemill.project.project import Project


class Days:
    """The daemon's loop of a shop on a virtual clock; every day has new rows and an evaluation of the watch."""

    def __init__(self, folder: Path, address: str) -> None:
        changes = {
            'notify = ["log"]': f'notify = ["{address}"]\nexperiment_after = 3',
            # No model of these rows can pass, and every model is too old.
            "margin = 0.01": 'margin = 0.01\nthresholds = { roc_auc = ">= 0.99" }',
            "limit = 14.0": "limit = 0.1",
            'value = "growth"\nlimit = 0.1': 'value = "growth"\nlimit = 90.1',
            'cooldown = "7d"': 'cooldown = "1h"',
        }
        first = make_project(folder)
        self.clock = VirtualClock(SystemClock().now())
        record, _ = run(*self._open(first, "training"))
        assert record.state == "done", record.error
        file = folder / "tidemill.toml"
        text = file.read_text()
        for passage, other in changes.items():
            assert passage in text, passage
            text = text.replace(passage, other)
        file.write_text(text)
        self.session = open_session(Project(folder), "production", self.clock)
        self.books = self.session.workspace.ledger
        self.loop = Loop(self.session, self._work)

    def _open(self, project: Project, pipeline: str) -> tuple[Any, Any, dict[str, str]]:
        session = open_session(project, "production", self.clock)
        return session, project.code.pipeline(pipeline), {"model": "shop"}

    def _work(self, job: Job) -> tuple[JobState, str, str]:
        cause = {"trigger": job.trigger, "event": job.event, "job": job.id}
        pipeline = self.session.project.code.pipeline(job.pipeline)
        record, _ = run(self.session, pipeline, {"model": job.model or "shop"} | job.params, cause=cause)
        return to_job_state(record), record.id, record.error

    def live_one(self) -> None:
        self.clock.sleep(86400)
        file = self.session.project.folder / "data" / "shop.csv"
        rows = pl.read_csv(file, try_parse_dates=True)
        more = rows.tail(20).with_columns(
            pl.concat_str(pl.lit("n"), pl.col("order_id")).alias("order_id"), pl.col("ordered") + pl.duration(days=1)
        )
        pl.concat([rows, more], how="vertical_relaxed").write_csv(file)
        self.loop.run_once()


def test_a_person_is_asked_once_with_the_evidence(tmp_path: Path, receiver: Receiver) -> None:
    days = Days(tmp_path / "shop", receiver.address)
    policy: Policy = days.session.project.policy
    assert policy.models["shop"].watch.experiment_after == 3
    for _ in range(6):
        days.live_one()
    runs = days.books.runs.find(pipeline="training")
    assert [found.state for found in runs][:4] == ["done", "stopped", "stopped", "stopped"]
    (verdict,) = days.books.verdicts.find(check="retraining")
    assert (verdict.action, verdict.evidence["retrainings"], verdict.evidence["limit"]) == ("experiment", 3, 3)
    assert all("roc_auc" in reason for reason in verdict.evidence["reasons"])
    events = [event for event in days.books.events.find(kind="verdict") if event.payload["action"] == "experiment"]
    assert [event.payload["check"] for event in events] == ["retraining"]
    messages = [message for message in receiver.received if "retraining → experiment" in message["message"]]
    (message,) = messages
    assert "the last 3 retrainings in a row did not help: " in message["message"]
    assert "look for other inputs, another window of rows or another estimator" in message["message"]
    assert message["message"].count("age → retrain") <= 1, "one message has all findings of a run"
    assert verdict.evidence["checks"] == ["age", "age", "age"]
    pictures = [base64.b64decode(attachment["base64"]).decode() for attachment in message["attachments"]]
    assert [">shop: age<" in picture for picture in pictures] == [True], "the value that asked for them, once"
