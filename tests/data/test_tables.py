"""Tables in files: each format gives the same rows, and errors name the file and the cure."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from tidemill.core.source import Source
from tidemill.data.frame import add_times
from tidemill.data.learning import learn_table
from tidemill.data.tables import read_table
from tidemill.errors import DataError, Unreadable

ARRIVED = datetime(2013, 3, 1, 6, tzinfo=UTC)
NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)
FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", None], "t": [NOON, None]})


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def test_each_format_gives_the_same_rows(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "a.parquet")
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.write_csv(tmp_path / "a.tsv", separator="\t")
    FRAME.write_ndjson(tmp_path / "a.jsonl")
    for name in ("a.parquet", "a.csv", "a.tsv", "a.jsonl"):
        found = read_table(tmp_path / name)
        assert found.select("a", "b").rows() == [(1, "x"), (2, None)], name
        times = add_times(found, Source(path="a", time="t"), "rows", ARRIVED)["_tidemill_time"]
        assert times.to_list() == [NOON, None], name


def test_the_format_can_be_named_where_the_file_does_not(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "rows.txt", b"a,b\n1,2\n"), "csv").rows() == [(1, 2)]


def test_what_stands_far_down_is_read_as_well(tmp_path: Path) -> None:
    late = read_table(write(tmp_path, "a.csv", b"a,b\n" + b"1,2\n" * 20_000 + b"A7,2\n"))
    assert (late["a"][0], late["a"][-1]) == ("1", "A7")
    assert late["b"].dtype == pl.Int64
    rows = b'{"a":1}\n' * 20_000 + '{"a":1.5,"größe":3}\n'.encode()
    late = read_table(write(tmp_path, "a.jsonl", rows))
    assert late.row(-1) == (1.5, 3)


def test_csv_has_no_types_so_codes_stay_as_they_are_written(tmp_path: Path) -> None:
    file = write(tmp_path, "a[1].csv", b"zip,a,b,n,\n00569,12.50,3,-7,1\n12345,8.00,4,0,2\n")
    guessed = read_table(file)
    assert guessed.rows() == [("00569", 12.5, 3, -7, 1), ("12345", 8.0, 4, 0, 2)]
    assert read_table(file, types={"a": "text", "elsewhere": "text"}).rows()[0] == ("00569", "12.50", 3, -7, 1)
    late = read_table(write(tmp_path, "later.csv", b"zip,a\n02139,1\n10001,2\n"), types={"zip": "integer"})
    assert late["zip"].to_list() == ["02139", "10001"]


def test_the_header_of_csv_may_have_quotes(tmp_path: Path) -> None:
    FRAME.rename({"a": 'größe"x', "b": '"'}).write_csv(tmp_path / "a.csv")
    found = read_table(tmp_path / "a.csv")
    assert found.columns == ['größe"x', '"', "t"]
    assert read_table(tmp_path / "a.csv", types={'größe"x': "text"}).row(0)[:2] == ("1", "x")


def test_dates_of_csv_are_iso_8601_or_text(tmp_path: Path) -> None:
    rows = b"born,seen,us,clock\n1999-01-31,2013-01-31 12:00,04/09/2013,12:30\n1999-02-01,,12/31/2013,12:31\n"
    found = read_table(write(tmp_path, "a.csv", rows))
    assert found.row(0) == (date(1999, 1, 31), NOON, "04/09/2013", "12:30")


def test_text_of_json_that_all_is_iso_8601_is_time(tmp_path: Path) -> None:
    rows = [
        {"born": "1999-01-31", "seen": "2013-01-31T14:00:00+02:00", "message": "2013-01-31 was cold", "code": None},
        {"born": None, "seen": "2013-01-31T12:00:00Z", "message": "2013-01-31", "code": "2013-13-01"},
    ]
    file = write(tmp_path, "a.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    found = read_table(file)
    assert found.rows() == [
        (date(1999, 1, 31), NOON, "2013-01-31 was cold", None),
        (None, NOON, "2013-01-31", "2013-13-01"),
    ]
    assert read_table(file, types={"born": "text"})["born"].to_list() == ["1999-01-31", None]


WRONG = {
    "empty": ("a.csv", b"", "is empty", "header"),
    "blank": ("a.csv", b"\n\n", "is empty", "header"),
    "header only": ("a.csv", b"a,b\n", "has no rows", "rows"),
    "not UTF-8": ("a.csv", "a,b\ncaf\xe9,1\n".encode("latin-1"), "is not UTF-8", "iconv"),
    "not UTF-8 far down": (
        "a.csv",
        b"a,b\n" + b"x,1\n" * 20_000 + "caf\xe9,1\n".encode("latin-1"),
        "is not UTF-8",
        "iconv",
    ),
    "too many values": (
        "a.csv",
        b"a,b\n1,2\n1,2,3\n",
        "line 3 .* 3 values, but the header has 2",
        "quotes",
    ),
    "too few values": (
        "a.csv",
        b"a,b,c\n1,2,3\n\n1,2\n",
        "line 4 .* 2 values, but the header has 3",
        "line",
    ),
    "a name twice": ("a.csv", b"a,b,a\n1,2,3\n", "two columns with the name 'a' .columns 1 and 3", "rename"),
    "another separator": ("a.csv", b"a;b\n1;2\n", "separated by a semicolon, not by a comma", 'separator = ";"'),
    "JSON cut off": ("a.jsonl", b'{"a":1}\n{"a":', "cannot be read as jsonl", "complete"),
    "JSON not UTF-8": ("a.jsonl", '{"a":"caf\xe9"}\n'.encode("latin-1"), "is not UTF-8", "iconv"),
    "no Parquet": ("a.parquet", b"PAR1 and nothing", "cannot be read as parquet", "complete"),
    "empty Parquet": ("a.parquet", b"", "is empty", "header"),
    "unknown format": ("a.doc", b"PK", "format of .*a.doc is unknown", ".parquet"),
}


@pytest.mark.parametrize(("name", "content", "message", "cure"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_reported(tmp_path: Path, name: str, content: bytes, message: str, cure: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read_table(write(tmp_path, name, content))
    assert name in raised.value.problem
    assert cure in raised.value.cure


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_parquet_that_is_cut_off_is_reported(tmp_path: Path, share: float) -> None:
    pl.DataFrame({"x": range(10_000)}).write_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_table(write(tmp_path, "part.parquet", content[: int(len(content) * share)]))


def test_what_is_no_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere.csv")
    for name, message in {
        "nowhere.csv": "there is no file",
        ".": "is a folder",
        "link.csv": "a link to a missing file",
    }.items():
        with pytest.raises(DataError, match=message) as raised:
            read_table(tmp_path / name)
        assert raised.value.cure


def test_the_folder_of_a_delta_table_is_not_taken_for_files(tmp_path: Path) -> None:
    """Its files may have rows that are deleted."""
    (tmp_path / "lake" / "_delta_log").mkdir(parents=True)
    with pytest.raises(Unreadable, match="is a Delta table") as caught:
        read_table(tmp_path / "lake")
    assert "read_delta" in caught.value.cure


def test_a_failure_inside_polars_is_an_error_with_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise pl.exceptions.PanicException("assertion failed: i < self.len()")

    file = write(tmp_path, "a.csv", b"a,b\n1,2\n")
    monkeypatch.setattr("tidemill.data.learning.type_column", fail)
    monkeypatch.setattr("tidemill.data.tables.type_columns", fail)
    for read in (learn_table, read_table):
        with pytest.raises(Unreadable, match="Polars failed on its values") as raised:
            read(file)
        assert "Parquet" in raised.value.cure
