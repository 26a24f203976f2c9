"""What `init` learns about a file: a table as people write it equals the clean one, or it is asked about."""

import json
import shlex
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tidemill.data.learning import LearnedTable, learn_table
from tidemill.data.reading.given import GivenDialect
from tidemill.data.tables import read_table
from tidemill.errors import DataError, InputError

ROWS = 60
CLEAN = pl.DataFrame(
    {
        "price": [42_000 + 500 * row for row in range(ROWS)],
        "size": [5850.25 + row for row in range(ROWS)],
        "rooms": [1 + row % 4 if row % 9 else None for row in range(ROWS)],
        "kind": [("house", "flat", None)[row % 3] for row in range(ROWS)],
    }
)


def write(folder: Path, content: str | bytes, name: str = "table.csv", encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return file


def lines(frame: pl.DataFrame, separator: str = ",", null: Callable[[str], str] = lambda _: "", **formats: Any) -> str:
    """Return a frame as text; `formats` has a function for the values of a column."""
    rows = [
        separator.join(
            null(name) if value is None else str(formats.get(name, str)(value)) for name, value in row.items()
        )
        for row in frame.iter_rows(named=True)
    ]
    return "\n".join([separator.join(frame.columns), *rows, ""])


def given(words: str) -> GivenDialect:
    """Return the options of a command line as `init` reads them."""
    parts = shlex.split(words)
    options = list(zip(parts[::2], parts[1::2], strict=True))
    single: dict[str, Any] = {
        key[2:]: value for key, value in options if key in ("--separator", "--encoding", "--decimal", "--thousands")
    }
    formats = {key.rpartition("=")[0]: key.rpartition("=")[2] for flag, key in options if flag == "--date-format"}
    return GivenDialect(
        **single,
        nulls=tuple(value for key, value in options if key == "--null"),
        texts=tuple(value for key, value in options if key == "--text"),
        date_formats=formats,
    )


def comma(value: float) -> str:
    return str(value).replace(".", ",")


AS_WRITTEN: dict[str, tuple[str, str]] = {
    "NA everywhere": (lines(CLEAN, null=lambda _: "NA"), "utf-8"),
    "a null for each taste": (
        lines(CLEAN, null=lambda name: {"rooms": "-", "kind": "NA"}[name]),
        "utf-8",
    ),
    "question marks": (lines(CLEAN, null=lambda _: "?"), "utf-8"),
    "semicolons": (lines(CLEAN, ";"), "utf-8"),
    "a line for Excel": ("sep=;\r\n" + lines(CLEAN, ";"), "utf-8-sig"),
    "tabs": (lines(CLEAN, "\t"), "utf-8"),
    "bars": (lines(CLEAN, "|"), "utf-8"),
    "decimal commas with a byte order mark": (lines(CLEAN, ";", size=comma), "utf-8-sig"),
    "European numbers": (
        lines(CLEAN, ";", price=lambda value: f"{value:,}".replace(",", "."), size=comma),
        "utf-8",
    ),
    "quoted thousands": (lines(CLEAN, price=lambda value: f'"{value:,}"'), "utf-8"),
    "spaces as thousands": (lines(CLEAN, price=lambda value: f"{value:,}".replace(",", "\u00a0")), "utf-8"),
    "empty lines": (lines(CLEAN).replace("\n", "\n\n", 9) + "\n  \n", "utf-8"),
    "spaces around values": (lines(CLEAN, price=lambda value: f" {value} ", rooms=lambda value: f" {value}"), "utf-8"),
    "a separator at the end": (lines(CLEAN).replace("\n", ",\n"), "utf-8"),
    "UTF-16": (lines(CLEAN, "\t"), "utf-16"),
}


@pytest.mark.parametrize(("content", "encoding"), AS_WRITTEN.values(), ids=AS_WRITTEN)
def test_a_table_as_people_write_it_equals_the_clean_one(tmp_path: Path, content: str, encoding: str) -> None:
    file = write(tmp_path, content, encoding=encoding)
    learned = learn_table(file)
    assert_frame_equal(learned.frame, CLEAN)
    assert_frame_equal(read_table(file, dialect=learned.dialect), CLEAN)


def test_names_and_values_in_korean_are_no_mojibake(tmp_path: Path) -> None:
    korean = CLEAN.select(
        pl.col("price").alias("가격"), pl.col("kind").replace({"house": "주택", "flat": "아파트"}).alias("종류")
    )
    learned = learn_table(write(tmp_path, lines(korean), encoding="cp949"))
    assert learned.dialect.encoding == "cp949"
    assert "encoding: cp949" in learned.facts
    assert_frame_equal(learned.frame, korean)


DATES = [date(2013, 1 + row % 12, 1 + row % 28) for row in range(ROWS)]
EARLY = [date(2013, 1 + row % 12, 1 + row % 11) for row in range(ROWS)]
ASKED: dict[str, tuple[str, str, str, pl.Series]] = {
    "one word among numbers": (
        lines(CLEAN, size=lambda value: "unknown" if value == 5900.25 else value),
        r"'size' has 59 numbers and 1 other value: 'unknown'",
        "--null unknown",
        CLEAN["size"].set(CLEAN["size"] == 5900.25, None),
    ),
    "codes among numbers, kept": (
        lines(CLEAN, price=lambda value: "POST" if value == 42_000 else value),
        r"'price' has 59 numbers and 1 other value: 'POST'",
        "--text price",
        CLEAN["price"].cast(pl.String).replace("42000", "POST"),
    ),
    "one word among times": (
        lines(
            CLEAN.with_columns(at=pl.Series(DATES)), at=lambda day: "soon" if day == DATES[13] else f"{day} 12:00:00"
        ),
        "'at' has 59 dates and 1 other value: 'soon'",
        "--null soon",
        pl.Series(
            "at",
            [
                None if row == 13 else datetime.combine(day, datetime.min.time(), UTC).replace(hour=12)
                for row, day in enumerate(DATES)
            ],
            dtype=pl.Datetime("us", "UTC"),
        ),
    ),
    "day or month": (
        lines(pl.DataFrame({"at": EARLY, "n": range(ROWS)}), at=lambda day: day.strftime("%d/%m/%Y")),
        "'at' has dates such as 01/01/2013, and it is not certain which part is the day",
        "--date-format at=%d/%m/%Y",
        pl.Series("at", EARLY),
    ),
    "a year of two digits": (
        lines(pl.DataFrame({"at": DATES, "n": range(ROWS)}), at=lambda day: day.strftime("%d.%m.%y")),
        "'at' has dates such as 01.01.13, and it is not certain",
        "--date-format at=%d.%m.%y",
        pl.Series("at", DATES),
    ),
    "thousands or fractions": (
        lines(CLEAN, ";", price=lambda value: f"{value:,}", size=lambda value: int(value)),
        "'price' has values such as 42,000: ',' separates thousands or fractions",
        "--thousands ,",
        CLEAN["price"],
    ),
}


@pytest.mark.parametrize(("content", "problem", "option", "wanted"), ASKED.values(), ids=ASKED)
def test_what_the_file_does_not_show_is_asked_and_the_cure_works(
    tmp_path: Path, content: str, problem: str, option: str, wanted: pl.Series
) -> None:
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=problem) as asked:
        learn_table(file)
    assert option in asked.value.cure
    learned = learn_table(file, given(option))
    assert learned.frame[wanted.name].equals(wanted)
    assert read_table(file, dialect=learned.dialect)[wanted.name].equals(wanted)
    assert learn_table(file, ask=False).frame.height == ROWS


@pytest.mark.parametrize(
    "form", ["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d %b %Y", "%B %d, %Y", "%d-%b-%Y", "%Y.%m.%d", "%d.%m.%Y %H:%M"]
)
def test_a_format_of_dates_that_is_certain_is_learned(tmp_path: Path, form: str) -> None:
    frame = pl.DataFrame({"at": DATES, "n": range(ROWS)})
    learned = learn_table(write(tmp_path, lines(frame, "|", at=lambda day: day.strftime(form))))
    wanted = frame["at"] if "%H" not in form else frame["at"].cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    assert learned.frame["at"].equals(wanted)
    assert set(learned.dialect.date_formats) == {"at"}


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6)])
def test_numbers_that_may_be_times_stay_numbers_and_are_proposed(tmp_path: Path, unit: str, factor: int) -> None:
    begin = datetime(2020, 9, 13, tzinfo=UTC)
    seconds = [int(begin.timestamp()) + 60 * row for row in range(ROWS)]
    frame = pl.DataFrame({"at": [second * factor for second in seconds], "n": range(ROWS)})
    for file in (write(tmp_path, lines(frame)), tmp_path / "table.parquet"):
        frame.write_parquet(tmp_path / "table.parquet")
        learned = learn_table(file)
        assert learned.frame["at"].dtype == pl.Int64
        option = f"--date-format at=unix_{unit}"
        assert [fact for fact in learned.facts if option in fact]
        with pytest.raises(InputError, match="'at' has integers, not times") as refused:
            learn_table(file, GivenDialect(times=("at",)))
        assert option in refused.value.cure
        assert learn_table(file, given(option)).frame["at"][0] == begin


def test_a_word_of_a_text_is_null_only_if_numbers_show_it(tmp_path: Path) -> None:
    table = "roof,size,n\n" + "".join(f"{('None', 'tile')[row % 2]},{row},{row}\n" for row in range(ROWS))
    learned = learn_table(write(tmp_path, table))
    assert learned.frame["roof"].null_count() == 0
    assert learned.nulls == {}
    learned = learn_table(write(tmp_path, table.replace("None,4,", "None,None,")))
    assert learned.dialect.nulls == ("None",)
    assert learned.nulls == {"roof": {"None": ROWS // 2}, "size": {"None": 1}}


def test_a_code_that_looks_like_a_null_is_a_code(tmp_path: Path) -> None:
    countries = ["DE", "NA", "US", "FR", "CH", "GB"] * 10
    frame = pl.DataFrame({"country": countries, "n": range(ROWS)})
    learned = learn_table(write(tmp_path, lines(frame)))
    assert learned.frame["country"].to_list() == countries
    assert learned.dialect.texts == ("country",)
    assert learn_table(write(tmp_path, lines(frame)), given("--null NA")).frame["country"].null_count() == 10


def test_digits_that_a_number_would_lose_stay_text(tmp_path: Path) -> None:
    codes = {"zip": "02139", "phone": "+41791234567", "card": "12345678901234567890", "icd": "042.1"}
    table = ",".join((*codes, "n")) + "\n" + "".join(f"{','.join(codes.values())},{row}\n" for row in range(ROWS))
    learned = learn_table(write(tmp_path, table))
    assert learned.frame.row(0) == (*codes.values(), 0)


def test_json_with_values_that_are_no_json(tmp_path: Path) -> None:
    rows = [{"a": float("nan") if row == 5 else row / 2, "b": "x", "c": row} for row in range(ROWS)]
    for name, text in {
        "a.jsonl": "\n".join(map(json.dumps, rows)),
        "a.json": json.dumps(rows),
        "b.json": "\n".join(map(json.dumps, rows)),
    }.items():
        found = learn_table(write(tmp_path, text, name)).frame
        assert found["a"].null_count() == 1
        assert found.schema == {"a": pl.Float64, "b": pl.String, "c": pl.Int64}


def test_json_of_mixed_types_is_text_or_numbers_with_nulls(tmp_path: Path) -> None:
    rows = [{"a": "unknown" if row == 5 else row / 2, "b": "one" if row % 2 else row} for row in range(ROWS)]
    file = write(tmp_path, "\n".join(map(json.dumps, rows)), "a.jsonl")
    with pytest.raises(DataError, match="'a' has 59 numbers and 1 other value: 'unknown'"):
        learn_table(file)
    found = learn_table(file, given("--null unknown")).frame
    assert found["a"].to_list() == [None if row == 5 else row / 2 for row in range(ROWS)]
    assert found["b"][:2].to_list() == ["0", "one"]


def test_a_workbook_is_a_table(tmp_path: Path) -> None:
    learned = learn_table(workbook(tmp_path, {"Sales": [["at", "price", "kind", ""], *WORKBOOK_ROWS]}))
    assert learned.frame.rows() == [(date(2013, 1, 31), 42_000, "house"), (date(2013, 2, 28), None, "flat")]
    with pytest.raises(DataError, match="has 2 sheets with values: Sales, Notes"):
        learn_table(workbook(tmp_path, {"Sales": [["a"], [1]], "Notes": [["read me"]]}))


WORKBOOK_ROWS: list[list[Any]] = [
    [date(2013, 1, 31), 42_000, "house", ""],
    ["", "", "", ""],
    [date(2013, 2, 28), "", "flat", ""],
]


def workbook(folder: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    """Write a workbook as Excel does, with style 1 for dates."""
    main, office = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org"
    relations = f"{office}/officeDocument/2006/relationships"
    links = "".join(
        f'<Relationship Id="r{number}" Type="{relations}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number, _ in enumerate(sheets, 1)
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{office}/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{office}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{office}/package/2006/relationships">'
        f"{links}"
        f'<Relationship Id="s" Type="{relations}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}">'
        '<cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
        + "</sheets></workbook>",
    }
    for number, rows in enumerate(sheets.values(), 1):
        lines = "".join(
            f'<row r="{row}">'
            + "".join(cell(f"{'ABCDEFG'[at]}{row}", value) for at, value in enumerate(values))
            + "</row>"
            for row, values in enumerate(rows, 1)
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>'
        )
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return write(folder, content.getvalue(), "table.xlsx")


def cell(position: str, value: Any) -> str:
    if value == "":
        return ""
    if isinstance(value, date):
        return f'<c r="{position}" s="1"><v>{(value - date(1899, 12, 30)).days}</v></c>'
    if isinstance(value, str):
        return f'<c r="{position}" t="inlineStr"><is><t>{value}</t></is></c>'
    return f'<c r="{position}"><v>{value}</v></c>'


@pytest.mark.parametrize("header", ["Fare,fare,n", "n,n,x"])
def test_names_that_a_table_cannot_tell_apart_are_refused(tmp_path: Path, header: str) -> None:
    first, second, *_ = header.split(",")
    for name, content in {
        "a.csv": f"{header}\n1,2,3\n",
        "a.jsonl": f'{{"{first}":1,"{second}x":2}}\n'.replace("x", "") if first != second else "",
    }.items():
        if content:
            with pytest.raises(DataError, match=r"differ only in upper and lower case|two columns with the name"):
                learn_table(write(tmp_path, content, name))


def test_options_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, lines(CLEAN))
    for option, problem in {
        "--text zip": "no column 'zip'",
        "--date-format price=%d.%m.%Y": "'price' has 60 values without the format",
        "--date-format %d.%m.%Y": "no column has dates of the format",
        "--date-format %d.%q.%Y": "is not a format of dates",
        "--date-format unix_seconds": "unix_seconds needs a column",
        "--encoding klingon": "there is no encoding 'klingon'",
    }.items():
        with pytest.raises(InputError, match=problem) as refused:
            learn_table(file, given(option))
        assert refused.value.cure


def test_a_clean_table_has_no_facts(tmp_path: Path) -> None:
    learned: LearnedTable = learn_table(write(tmp_path, lines(CLEAN)))
    assert learned.facts == ()
    assert learned.dialect.identity == ()
