"""Rows reach the journal whole: on size, on time, at the end, and after a disk that was full."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tests.serving.kit import until
from tidemill.journal.files import FileJournal
from tidemill.serving.buffer import Buffer
from tidemill.serving.metrics import Metrics

KIND = "predictions/m"


def rows(number: int, **more: object) -> pl.DataFrame:
    at = pl.Series("known_at", [datetime(2013, 1, 1, tzinfo=UTC)] * number, dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame([at, pl.Series("n", range(number)), pl.Series("features", [{"a": 1.0, **more}] * number)])


def counted(metrics: Metrics, outcome: str) -> float:
    return metrics.value("tidemill_journal_rows_total", outcome=outcome)


def test_all_that_waits_is_written_on_close(tmp_path: Path) -> None:
    journal, metrics = FileJournal(tmp_path), Metrics()
    buffer = Buffer(journal, metrics, seconds=3600)
    buffer.start()
    for _ in range(20):
        buffer.append(KIND, rows(3))
    buffer.append(KIND, rows(1, b="another release"))
    assert journal.read(KIND).is_empty()
    buffer.close()
    assert journal.read(KIND).height == 61
    assert len(list(tmp_path.rglob("*.arrow"))) == 1
    assert counted(metrics, "written") == 61


def test_a_full_segment_is_written_at_once(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    buffer = Buffer(journal, Metrics(), seconds=3600, rows=10)
    buffer.start()
    buffer.append(KIND, rows(10))
    until(lambda: journal.read(KIND).height == 10)
    buffer.close()


def test_rows_are_written_after_a_while(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    buffer = Buffer(journal, Metrics(), seconds=0.02)
    buffer.start()
    buffer.append(KIND, rows(1))
    until(lambda: journal.read(KIND).height == 1)
    buffer.close()


def test_rows_wait_for_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal, metrics = FileJournal(folder), Metrics()
    folder.rmdir()
    folder.write_text("in the way")
    buffer = Buffer(journal, metrics, bound=10)
    buffer.append(KIND, rows(8))
    assert not buffer.flush()
    buffer.append(KIND, rows(8))
    assert counted(metrics, "dropped") == 8
    folder.unlink()
    assert buffer.flush()
    assert journal.read(KIND).height == 8
    assert counted(metrics, "written") == 8


def test_what_can_never_be_written_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal, metrics = FileJournal(folder), Metrics()
    folder.rmdir()
    folder.write_text("in the way")
    buffer = Buffer(journal, metrics)
    buffer.append(KIND, rows(8))
    buffer.close()
    assert counted(metrics, "dropped") == 8
