"""Replayed sources: a planted file is read like an ingested file."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill.backtest.sources import ReplaySources
from tidemill.checks.inference import infer_schema
from tidemill.checks.table import validate
from tidemill.core.backtest import Backtest, Planted
from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import DataError
from tidemill.recipes.ingestion import read_batch

DAY = datetime(2026, 3, 2, tzinfo=UTC)
HISTORY = "at,größe\n2026-03-01T10:00:00Z,1\n2026-03-02T10:00:00Z,2\n2026-03-03T10:00:00Z,3\n"


def make_sources(folder: Path, planted: str, history: str = HISTORY) -> ReplaySources:
    """A history of three days, with a planted file for the second day."""
    (folder / "rows.csv").write_text(history)
    (folder / "planted.txt").write_text(planted)
    source = Source(path="rows.csv", time="at", format="csv")
    options = Backtest(planted=(Planted(source="rows", day="2026-03-02", path="planted.txt"),))
    return ReplaySources(folder, FileSources(folder, {"rows": source}), "rows", DAY, options)


@pytest.mark.parametrize(
    ("planted", "anomaly"),
    [
        ("at,größe\n2026-03-02T10:00:00Z,2\nin der Früh,3\n", "should be of type time"),
        ("größe\n2\n3\n", "missing"),
        ("at,größe\n", "0 rows"),
    ],
    ids=["an invalid time", "no times", "no rows"],
)
def test_an_invalid_planted_file_fails_validation_without_an_error(tmp_path: Path, planted: str, anomaly: str) -> None:
    sources = make_sources(tmp_path, planted)
    before, delivered = sources.batches("rows", DAY.replace(day=3))
    schema = infer_schema(sources.read(before), "rows", ())
    verdict = validate(sources.read(delivered), schema, delivered.id, sources.definition("rows"), delivered.known_at)
    assert verdict.stops
    assert anomaly in str(verdict.evidence["anomalies"])


def test_a_planted_file_is_read_with_the_types_of_its_schema(tmp_path: Path) -> None:
    """Codes that are all numbers in this file are text, as in the other files."""
    sources = make_sources(tmp_path, "at,größe\n2026-03-02T10:00:00Z,12\n", HISTORY.replace(",1\n", ",A1\n"))
    before, delivered = sources.batches("rows", DAY.replace(day=3))
    schema = infer_schema(sources.read(before), "rows", ())
    rows = read_batch(delivered, schema, sources)
    assert rows["größe"].to_list() == ["12"]
    assert not validate(rows, schema, delivered.id, sources.definition("rows"), delivered.known_at).stops


def test_a_row_without_an_event_time_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 rows of source 'rows' have no event time") as refused:
        make_sources(tmp_path, "", HISTORY + ",4\n")
    assert "'at'" in refused.value.cure


def test_a_day_without_rows_has_no_delivery_unless_one_is_planted(tmp_path: Path) -> None:
    weekly = HISTORY.replace("03-02T", "03-05T").replace("03-03T", "03-08T")
    sources = make_sources(tmp_path, "at,größe\n2026-03-02T10:00:00Z,12\n", weekly)
    assert [batch.known_at.day for batch in sources.batches("rows", DAY.replace(day=20))] == [2, 3, 6, 9]
    assert [time.day for time in sources.deliveries] == [2, 3, 6, 9]
