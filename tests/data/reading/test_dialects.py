"""One table, written in any dialect, is the same typed rows: by declared settings, or by those that are learned."""

import bz2
import csv
import gzip
import io
import lzma
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tidemill.core.dialect import Dialect
from tidemill.core.schema import ColumnType
from tidemill.data.learning import learn_table
from tidemill.data.tables import parse_table
from tidemill.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WORDS = {
    "utf-8": ["Zürich", "서울", "naïve, or not", 'a 5" pipe', "semi;colon", "a|b", "tab\there", "two\nlines"],
    "utf-8-sig": ["Zürich", "Ærø", "plain"],
    "utf-16": ["Zürich", "東京都", "plain"],
    "cp1252": ["Zürich", "José", "5 € each", "plain"],
    "cp1251": ["Москва", "Омск", "plain"],
    "cp949": ["서울특별시", "아델리", "비스코"],
    "cp932": ["東京都", "大阪府", "カメラ"],
    "gb18030": ["北京", "上海市", "广州"],
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
KINDS: dict[ColumnType, pl.DataType] = {
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "text": pl.String(),
    "date": pl.Date(),
    "time": pl.Datetime("us", "UTC"),
}
BEGIN = datetime(2013, 1, 1, tzinfo=UTC)


class Writing(NamedTuple):
    """How a table is written."""

    dialect: Dialect
    encoding: str
    compression: str
    null: str
    line_end: str
    quoting: int
    date_format: str

    def write(self, frame: pl.DataFrame) -> bytes:
        """Return the content of a file."""
        text = io.StringIO(newline="")
        writer = csv.writer(
            text,
            delimiter=self.dialect.separator,
            lineterminator=self.line_end,
            quoting=self.quoting,  # type: ignore[arg-type]
        )
        writer.writerow(frame.columns)
        writer.writerows([self._format(value) for value in row] for row in frame.rows())
        content = text.getvalue().encode(self.encoding)
        return COMPRESSIONS[self.compression](content)

    def _format(self, value: Any) -> str:
        if value is None:
            return self.null
        if isinstance(value, bool):
            return str(value)
        if isinstance(value, int):
            return self._group(value)
        if isinstance(value, float):
            whole, _, part = f"{abs(value):.3f}".partition(".")
            return f"{'-' * (value < 0)}{self._group(int(whole))}{self.dialect.decimal}{part}"
        if isinstance(value, datetime):
            return value.strftime(f"{self.date_format} %H:%M:%S" if self.date_format else "%Y-%m-%dT%H:%M:%SZ")
        return value.strftime(self.date_format or "%Y-%m-%d") if isinstance(value, date) else str(value)

    def _group(self, number: int) -> str:
        return f"{number:,}".replace(",", self.dialect.thousands)


@st.composite
def writings(draw: st.DrawFn) -> Writing:
    encoding = draw(st.sampled_from(sorted(WORDS)))
    decimal: Literal[".", ","] = draw(st.sampled_from([".", ","]))
    thousands = draw(st.sampled_from(["", "." if decimal == "," else ",", " ", "'"]))
    null = draw(st.sampled_from(["", "NA", "NULL", "#N/A", "-", "?", "unknown"]))
    marked = encoding in ("utf-8-sig", "utf-16")
    return Writing(
        Dialect(
            separator=draw(st.sampled_from([",", ";", "\t", "|"])),
            decimal=decimal,
            thousands=thousands,
            encoding="" if marked or encoding == "utf-8" else encoding,
            nulls=(null,) if null in ("-", "?", "unknown") else (),
        ),
        encoding,
        draw(st.sampled_from(sorted(COMPRESSIONS))),
        null,
        draw(st.sampled_from(["\n", "\r\n"] if encoding == "utf-8" else ["\n", "\r\n", "\r"])),
        draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        draw(st.sampled_from(["", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y"])),
    )


VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**53), 2**53) | st.integers(-2_000, 2_000),
    "number": st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1_000),
    "boolean": st.booleans(),
    "date": st.integers(0, 9_000).map(lambda days: (BEGIN + timedelta(days=days)).date()),
    "time": st.integers(0, 10**9).map(lambda seconds: BEGIN + timedelta(seconds=seconds)),
}


@st.composite
def tables(draw: st.DrawFn, words: list[str], least: int = 1) -> tuple[pl.DataFrame, dict[str, ColumnType]]:
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5))
    names = draw(st.permutations(['a "b"', "größe" if "Zürich" in words else "size", "a,b;c", "id", "Straße"[:4]]))
    height = draw(st.integers(least, 12))
    columns = {}
    for name, kind in zip(names, kinds, strict=False):
        values = VALUES.get(kind, st.sampled_from(words))
        drawn = draw(st.lists(st.none() | values, min_size=height, max_size=height))
        drawn[0] = drawn[0] if drawn[0] is not None else draw(values)
        columns[name] = pl.Series(name, drawn, dtype=KINDS[kind])
    return pl.DataFrame(columns), dict(zip(names, kinds, strict=False))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_table_in_any_declared_dialect_is_the_same_typed_table(data: st.DataObject) -> None:
    writing = data.draw(writings())
    frame, kinds = data.draw(tables(WORDS[writing.encoding]))
    dialect = writing.dialect
    if form := writing.date_format:
        formats = {name: form if kind == "date" else f"{form} %H:%M:%S" for name, kind in kinds.items()}
        formats = {name: form for name, form in formats.items() if kinds[name] in ("date", "time")}
        dialect = Dialect(
            **{name: getattr(dialect, name) for name in dialect.__struct_fields__} | {"date_formats": formats}
        )
    name = f"a.csv{writing.compression}"
    for types in (kinds, None):
        read = parse_table(io.BytesIO(writing.write(frame)), name, dialect=dialect, types=types)
        assert_frame_equal(read, frame)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_dialect_is_learned_or_asked_and_never_another_table(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # In a file separated by commas, "1,000" is one thousand: only an option shows that decimal commas are meant.
    writing = data.draw(
        writings().filter(lambda w: w.null != "unknown" and (w.dialect.separator, w.dialect.decimal) != (",", ","))
    )
    frame, kinds = data.draw(tables(WORDS[writing.encoding], least=3))
    file = tmp_path_factory.getbasetemp() / f"learned.csv{writing.compression}"
    file.write_bytes(writing.write(frame))
    learned = None
    with suppress(DataError):
        learned = learn_table(file)
    if learned is None:
        return
    words = frame.select(name for name, kind in kinds.items() if kind == "text").columns
    if writing.null in ("-", "?"):  # they are words, if no column of numbers shows that they are null
        learned_frame = learned.frame.with_columns(pl.col(name).replace(writing.null, None) for name in words)
    else:
        learned_frame = learned.frame
    for name in frame.columns:
        if kinds[name] in ("number", "integer"):
            assert learned_frame[name].dtype.is_numeric() or learned_frame[name].dtype == pl.String, name
        if learned_frame[name].dtype.is_numeric():
            assert learned_frame[name].cast(pl.Float64).equals(frame[name].cast(pl.Float64)), name
        elif kinds[name] not in ("number", "integer"):
            assert learned_frame[name].equals(frame[name]), name
    again = parse_table(file, str(file), dialect=learned.dialect)
    assert_frame_equal(again, learned.frame)
