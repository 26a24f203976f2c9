"""All rows reach the journal: at a number of rows, after a time, on close, and after a full disk."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tests.serving.kit import until
from tidemill.journal.files import FileJournal
from tidemill.serving.buffer import JournalBuffer
from tidemill.serving.metrics import ServiceMetrics

KIND = "predictions/m"


def rows(number: int, **features: object) -> pl.DataFrame:
    at = pl.Series("known_at", [datetime(2013, 1, 1, tzinfo=UTC)] * number, dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame([at, pl.Series("n", range(number)), pl.Series("features", [{"a": 1.0, **features}] * number)])


def count_rows(metrics: ServiceMetrics, outcome: str) -> float:
    return metrics.value("tidemill_journal_rows_total", outcome=outcome)


def test_waiting_rows_are_written_on_close(tmp_path: Path) -> None:
    journal, metrics = FileJournal(tmp_path), ServiceMetrics()
    buffer = JournalBuffer(journal, metrics, seconds=3600)
    buffer.start()
    for _ in range(20):
        buffer.append(KIND, rows(3))
    buffer.append(KIND, rows(1, b="another release"))
    assert journal.read(KIND).is_empty()
    buffer.close()
    assert journal.read(KIND).height == 61
    assert len(list(tmp_path.rglob("*.arrow"))) == 1
    assert count_rows(metrics, "written") == 61


def test_a_full_segment_is_written_at_once(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    buffer = JournalBuffer(journal, ServiceMetrics(), seconds=3600, rows=10)
    buffer.start()
    buffer.append(KIND, rows(10))
    until(lambda: journal.read(KIND).height == 10)
    buffer.close()


def test_rows_are_written_after_a_while(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    buffer = JournalBuffer(journal, ServiceMetrics(), seconds=0.02)
    buffer.start()
    buffer.append(KIND, rows(1))
    until(lambda: journal.read(KIND).height == 1)
    buffer.close()


def test_rows_wait_for_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal, metrics = FileJournal(folder), ServiceMetrics()
    folder.write_text("in the way")
    buffer = JournalBuffer(journal, metrics, bound=10)
    buffer.append(KIND, rows(8))
    assert not buffer.flush()
    buffer.append(KIND, rows(8))
    assert count_rows(metrics, "dropped") == 8
    folder.unlink()
    assert buffer.flush()
    assert journal.read(KIND).height == 8
    assert count_rows(metrics, "written") == 8


def test_rows_that_cannot_be_written_on_close_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal, metrics = FileJournal(folder), ServiceMetrics()
    folder.write_text("in the way")
    buffer = JournalBuffer(journal, metrics)
    buffer.append(KIND, rows(8))
    buffer.close()
    assert count_rows(metrics, "dropped") == 8
