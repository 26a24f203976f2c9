"""Later files of a source: those that fit its settings are accepted, others stop with a cure, and none is garbage."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tidemill.checks.inference import infer_schema
from tidemill.checks.table import check_table, convert_to_schema
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import Unreadable

NOW = datetime(2100, 1, 1, tzinfo=UTC)
ROWS = 40
SOURCE = Source(
    path="data/*.csv",
    separator=";",
    encoding="cp1252",
    decimal=",",
    nulls=("unknown",),
    date_formats={"day": "%d.%m.%Y"},
)


def table(
    separator: str = ";",
    decimal: str = ",",
    word: str = "Zürich",
    null: str = "",
    form: str = "%d.%m.%Y",
    code: str = "7",
) -> str:
    lines = [separator.join(("place", "price", "day", "code"))]
    for row in range(ROWS):
        price = null if row == 3 else f"{row + 0.25:.2f}".replace(".", decimal)
        day = date(2013, 1, 1) + timedelta(days=row)
        lines.append(separator.join((word, price, day.strftime(form), f"{code}{row:02d}")))
    return "\n".join([*lines, ""])


class Deliveries:
    """Reads and checks files of one source, in the order of their arrival."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir()
        self._folder = folder
        self._schema: Schema | None = None

    def deliver(self, content: bytes, name: str) -> tuple[pl.DataFrame, str]:
        """Return the rows of a file, and why its schema stops them."""
        (self._folder / "data" / name).write_bytes(content)
        sources = FileSources(self._folder, {"rows": SOURCE})
        batch = next(one for one in sources.batches("rows", NOW) if one.path.endswith(name))
        rows = sources.read(replace(batch, types=self._schema.types if self._schema else None))
        self._schema = self._schema or infer_schema(rows, "rows")
        verdict, _ = check_table(rows, self._schema, batch.id)
        return (
            rows if verdict.stops else convert_to_schema(rows, self._schema)
        ), verdict.reason if verdict.stops else ""


@pytest.fixture
def deliveries(tmp_path: Path) -> Deliveries:
    deliveries = Deliveries(tmp_path)
    rows, stopped = deliveries.deliver(table(null="unknown").encode("cp1252"), "first.csv")
    assert not stopped
    assert rows.row(0)[:4] == ("Zürich", 0.25, date(2013, 1, 1), 700)
    assert rows["price"].null_count() == 1
    return deliveries


FITTING = {
    "the same": table().encode("cp1252"),
    "another null": table(null="NA").encode("cp1252"),
    "ISO dates": table(form="%Y-%m-%d").encode("cp1252"),
    "a byte order mark": table().encode("utf-16"),
    "an empty line": table().replace("\n", "\n\n").encode("cp1252"),
}


@pytest.mark.parametrize("content", FITTING.values(), ids=FITTING)
def test_a_file_that_means_the_same_is_accepted(deliveries: Deliveries, content: bytes) -> None:
    rows, stopped = deliveries.deliver(content, "later.csv")
    assert not stopped
    assert rows.row(1)[:4] == ("Zürich", 1.25, date(2013, 1, 2), 701)


UNREADABLE = {
    "another separator": (table(",", ".").encode("cp1252"), "separated by a comma, not by a semicolon"),
    "UTF-8": (table().encode(), "is UTF-8, but its source is declared as cp1252"),
    "Korean": (table(word="서울특별시").encode("cp949"), "is not cp1252: its text is '서울특별시' in cp949"),
    "Russian": (table(word="Москва").encode("cp1251"), "is not cp1252: its text is 'Москва' in cp1251"),
    "no character": (table(word="Z\x81").encode("latin-1"), "is not cp1252: line 2 has bytes without a meaning"),
    "decimal points": (
        table(decimal=".").encode("cp1252"),
        "'price' has numbers such as 0.25, but its source has decimal",
    ),
    "a row cut off": (table().encode("cp1252")[:-20], "line 41 .* has 2 values, but the header has 4"),
}


@pytest.mark.parametrize(("content", "problem"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_written_otherwise_is_refused(deliveries: Deliveries, content: bytes, problem: str) -> None:
    with pytest.raises(Unreadable, match=problem) as refused:
        deliveries.deliver(content, "later.csv")
    assert refused.value.cure


STOPPED = {
    "a name in upper case": (table().replace("price", "Price", 1), "'price' is missing, but the table has 'Price'"),
    "a new word among numbers": (table(null="soon"), "1 of 40 values are not, such as soon"),
    "another format of dates": (table(form="%m/%d/%Y"), "should be of type date"),
    "codes with zeros": (table(code="0"), "should be of type integer, but is text, with codes such as 000, 001, 002"),
}


@pytest.mark.parametrize(("content", "reason"), STOPPED.values(), ids=STOPPED)
def test_values_that_do_not_fit_are_stopped_with_the_values(deliveries: Deliveries, content: str, reason: str) -> None:
    assert reason in deliveries.deliver(content.encode("cp1252"), "later.csv")[1]


def test_other_settings_make_a_file_a_new_batch(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a\n1\n")
    ids = {
        FileSources(tmp_path, {"rows": source}).batches("rows", NOW)[0].id
        for source in (Source(path="data/*.csv"), Source(path="data/*.csv", nulls=("-",)), SOURCE)
    }
    assert len(ids) == 3


def test_formats_of_dates_are_those_of_every_kind_of_source(tmp_path: Path) -> None:
    frame = pl.DataFrame({"at": [1_600_000_000], "day": ["31.01.2013"], "word": ["-"]})
    formats = {"at": "unix_seconds", "day": "%d.%m.%Y"}
    frame.write_parquet(tmp_path / "a.parquet")
    for sources in (
        FileSources(tmp_path, {"rows": Source(path="*.parquet", date_formats=formats, nulls=("-",))}),
        FileSources(tmp_path, {"rows": Source(path="", date_formats=formats, nulls=("-",))}, {"rows": frame}),
    ):
        rows = sources.raw(sources.batches("rows", NOW)[0])
        assert rows.row(0) == (datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC), date(2013, 1, 31), None)
