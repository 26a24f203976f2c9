"""Layouts of text files: lines before the header, no header, and spaces after separators give the same table."""

import csv
import io
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tidemill.core.dialect import Dialect
from tidemill.data.learning import LearnedTable, learn_table
from tidemill.data.reading.given import GivenDialect
from tidemill.data.tables import parse_table
from tidemill.errors import DataError, Unreadable

NAMES = ["price", "color, of it", "n", "day"]
WORDS = ["red", "blue, dark", 'a "b"', "green"]
PREAMBLES = [
    "# made by a, b, and c",
    "#",
    "Sales report",
    "Report of 2013",
    "",
    "From 2013-01-31 to 2013-02-28",
    "(c) we",
]


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    height = draw(st.integers(3, 12))
    numbers = st.integers(-1_000, 1_000).map(lambda tenths: tenths / 10 + 0.05)
    return pl.DataFrame(
        {
            NAMES[0]: draw(st.lists(numbers, min_size=height, max_size=height)),
            NAMES[1]: draw(st.lists(st.sampled_from(WORDS), min_size=height, max_size=height)),
            NAMES[2]: [*draw(st.lists(st.none() | st.integers(0, 9), min_size=height - 1, max_size=height - 1)), 1],
            NAMES[3]: [f"day {row}" for row in range(height)],
        },
        schema={NAMES[0]: pl.Float64, NAMES[1]: pl.String, NAMES[2]: pl.Int64, NAMES[3]: pl.String},
    )


def write(table: pl.DataFrame, separator: str, *, header: bool = True, space: str = "") -> str:
    """Return the text of a table; `space` follows each separator outside of quotes."""
    text = io.StringIO()
    lines = [table.columns] if header else []
    for line in [*lines, *([value if value is not None else "" for value in row] for row in table.rows())]:
        fields = []
        for value in line:
            field = io.StringIO()
            csv.writer(field, delimiter=separator, lineterminator="").writerow([value, "x"])
            fields.append(field.getvalue()[: -len(f"{separator}x")])
        text.write(f"{separator}{space}".join(fields) + "\n")
    return text.getvalue()


def learn(content: str, options: GivenDialect = GivenDialect()) -> LearnedTable:  # noqa: B008
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(content, encoding="utf-8")
        return learn_table(path, options)


def read_again(content: str, dialect: Dialect) -> pl.DataFrame:
    return parse_table(BytesIO(content.encode()), "later.csv", dialect=dialect)


preambles = st.lists(st.sampled_from(PREAMBLES), min_size=1, max_size=6)
separators = st.sampled_from([",", ";", "\t", "|"])


@settings(max_examples=40, deadline=None)
@given(
    tables(), separators, st.lists(st.sampled_from(PREAMBLES), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"])
)
def test_lines_before_the_header_are_skipped(table: pl.DataFrame, separator: str, lines: list[str], end: str) -> None:
    content = ("\n".join([*lines, ""]) + write(table, separator)).replace("\n", end)
    learned = learn(content)
    assert_frame_equal(learned.frame, table)
    assert_frame_equal(read_again(content, learned.dialect), table)


@settings(max_examples=40, deadline=None)
@given(tables(), separators, st.sampled_from([" ", "  "]))
def test_spaces_after_separators_are_removed(table: pl.DataFrame, separator: str, space: str) -> None:
    content = write(table, separator, space=space)
    learned = learn(content)
    assert learned.dialect.trim
    assert_frame_equal(learned.frame, table)
    assert_frame_equal(read_again(content, learned.dialect), table)
    assert_frame_equal(read_again(write(table, separator), learned.dialect), table)


@settings(max_examples=40, deadline=None)
@given(tables(), separators, st.booleans())
def test_a_file_without_a_header_is_asked_and_then_read(table: pl.DataFrame, separator: str, spaces: bool) -> None:
    content = write(table, separator, header=False, space=" " if spaces else "")
    with pytest.raises(DataError, match="no header") as error:
        learn(content, GivenDialect(label="y"))
    assert error.value.cure
    assert "--header with its 4 names" in error.value.cure
    learned = learn(content, GivenDialect(label=NAMES[0], header=tuple(NAMES)))
    assert_frame_equal(learned.frame, table)
    assert_frame_equal(read_again(content, learned.dialect), table)
    with_header = write(table, separator, space=" " if spaces else "")
    assert_frame_equal(read_again(with_header, learned.dialect), table)
    by_position = learn(content, GivenDialect(label="column_1", header=())).frame
    assert by_position.columns == ["column_1", "column_2", "column_3", "column_4"]
    assert by_position.rows() == table.rows()


PLAIN = "a,b,c\n1.5,red,2\n2.5,blue,3\n"


@pytest.mark.parametrize(
    ("content", "dialect", "message", "setting"),
    [
        (f"# a comment\n{PLAIN}", Dialect(), "header of later.csv is on line 2, not on line 1", "skip_lines = 1"),
        (PLAIN, Dialect(skip_lines=1), "header of later.csv is on line 1, not on line 2", "skip_lines = 0"),
        (f"t\n\n\n{PLAIN}", Dialect(skip_lines=1), "is on line 4, not on line 2", "skip_lines = 3"),
        (PLAIN.replace(",", ", "), Dialect(), "have a space after the separator", "trim = true"),
        (PLAIN, Dialect(header=("a", "b")), "has 3 values, but its source has 2 names", "`header`"),
    ],
)
def test_a_later_file_with_another_layout_is_refused_with_the_setting(
    content: str, dialect: Dialect, message: str, setting: str
) -> None:
    with pytest.raises(Unreadable, match=message) as error:
        read_again(content, dialect)
    assert error.value.cure
    assert setting in error.value.cure


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x,2\n2,y,3\n3,z,4\n",  # the row numbers have no name, as R writes them
        "a;b;c\n1;2\n3;4\n5;6;7\n",
        "a,b,c\n1,2\n3,4\n5,6\n",
    ],
)
def test_a_header_that_lacks_names_is_no_title(content: str) -> None:
    with pytest.raises(DataError, match=r"line 2 of .* values?, but the header has"):
        learn(content)


def test_line_numbers_count_the_skipped_lines() -> None:
    content = "# one\n# two\na,b,c\n" + "1,2,3\n" * 20 + "1,2\n"
    with pytest.raises(DataError, match=r"line 24 of .* has 2 values, but the header has 3"):
        learn(content)


@pytest.mark.parametrize("content", ["country,2001,2002\nx,1.5,2\ny,2.5,3\n", ",a,b\nr1,x,y\nr2,z,w\n"])
def test_headers_with_years_or_without_one_name_are_headers(content: str) -> None:
    learned = learn(content, GivenDialect(label="missing"))
    assert learned.dialect.skip_lines == 0
    assert learned.frame.height == 2
