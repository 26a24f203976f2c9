"""Row counts: a trigger with `rows` fires each time that this number of rows has arrived."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.clock import VirtualClock
from tidemill.core.trigger import Trigger
from tidemill.daemon.row_counts import RowCounts
from tidemill.daemon.triggers import Triggers
from tidemill.errors import ConfigurationError
from tidemill.journal.files import FileJournal
from tidemill.ledger.ledger import Ledger
from tidemill.project.configuration import read_policy
from tidemill.project.project import Project

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
EVERY_TEN = Trigger(name="newest rows", on="predictions", rows=10, pipeline="recalling")


class Stream:
    """A journal that grows while the time passes, and the triggers of a daemon."""

    def __init__(self, folder: Path) -> None:
        self.project = make_project(folder / "shop")
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.journal = FileJournal(folder / "journal")
        self.clock = VirtualClock(NOON)
        self.start()

    def start(self) -> None:
        """Start another daemon."""
        policy = replace(self.project.policy, triggers=(EVERY_TEN,))
        self.triggers = Triggers(policy, self.ledger, self.clock, "production")
        self.counts = RowCounts(policy, self.ledger, self.clock, "production", self.triggers.emit)
        self.counts.emit_events(self.journal)

    def predict(self, rows: int, role: str = "champion") -> None:
        times = [self.clock.now() + timedelta(milliseconds=number + 1) for number in range(rows)]
        self.clock.advance(times[-1])
        known_at = pl.Series("known_at", times, dtype=pl.Datetime("us", "UTC"))
        self.journal.append("predictions/shop", pl.DataFrame([known_at]).with_columns(pl.lit(role).alias("role")))

    def fire(self) -> int:
        """Return the number of jobs that were created."""
        self.counts.emit_events(self.journal)
        return len(self.triggers.fire())


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


def test_a_number_of_rows_fires_once(stream: Stream) -> None:
    stream.predict(9)
    assert stream.fire() == 0
    stream.predict(1)
    assert stream.fire() == 1
    assert stream.fire() == 0


def test_a_waiting_job_covers_later_rows(stream: Stream) -> None:
    for expected in (1, 0):
        stream.predict(25)
        assert stream.fire() == expected
    dropped = stream.ledger.jobs.find(state="dropped")
    assert [job.error for job in dropped] == ["a waiting job includes this cause"]


def test_shadow_predictions_are_not_counted(stream: Stream) -> None:
    stream.predict(30, role="shadow")
    assert stream.fire() == 0


def test_a_restart_counts_on(stream: Stream) -> None:
    stream.predict(10)
    assert stream.fire() == 1
    stream.predict(6)
    stream.start()
    stream.predict(4)
    assert stream.fire() == 0, "a job of the first event waits"
    events = stream.ledger.events.find(kind="predictions")
    assert [event.payload["rows"] for event in events] == [10, 10]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('on = "predictions"', "has no number of rows"),
        ('on = "verdict"\nrows = 5', "has a number of rows"),
        ('cron = "0 * * * *"\nrows = 5', "has a cron and a number of rows"),
        ('on = "labels"\nrows = 0', "rows"),
    ],
)
def test_a_trigger_with_wrong_rows_is_refused(tmp_path: Path, setting: str, problem: str) -> None:
    project: Project = make_project(tmp_path / "shop")
    file = project.folder / "tidemill.toml"
    file.write_text(f'{file.read_text()}\n[[triggers]]\nname = "odd"\npipeline = "watching"\n{setting}\n')
    with pytest.raises(ConfigurationError, match=problem):
        read_policy(file)
