"""Parts of a file that is too large to be read at once: together they have the rows and the types of the whole file.

A first pass over the file finds the columns and the types of all its values; each further pass yields the parts.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from msgspec import Struct

from tidemill.core.columns import require_usable_names
from tidemill.core.dialect import Dialect
from tidemill.core.schema import ColumnType
from tidemill.data.reading.blocks import iterate_blocks
from tidemill.data.reading.bounds import Bounds, require_cells, require_columns, require_json_cells, require_shallow
from tidemill.data.reading.content import split_suffix
from tidemill.data.reading.delimited import parse_delimited
from tidemill.data.reading.encodings import find_mark, to_utf8
from tidemill.data.reading.json_rows import parse_json, to_plain_text
from tidemill.data.reading.layout import find_default_separator, iterate_records, normalize_line_ends, skip_first_lines
from tidemill.data.reading.parquet_bounds import require_parquet_file
from tidemill.data.reading.parquet_footer import Footer
from tidemill.data.reading.values import type_columns, type_typed_columns
from tidemill.data.storable import to_storable
from tidemill.data.types import column_type
from tidemill.errors import Unreadable

FORMATS = ("csv", "jsonl", "parquet")
_LARGEST_PART = 32_000_000  # bytes of text; values of Parquet times 32
_PER_VALUE = 32
_SCALARS = (pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Null)


class PartReader(Struct, frozen=True, kw_only=True):
    """How the parts of one file are read: `raw` are the columns before, `types` those after their values are typed."""

    path: Path
    form: str
    dialect: Dialect
    bounds: Bounds
    types: Mapping[str, ColumnType]
    raw: Mapping[str, Any]

    def iterate(self) -> Iterator[pl.DataFrame]:
        """Yield the parts in their order, as the whole file would be read."""
        for frame in _iterate_raw(self.path, self.form, self.dialect, self.bounds):
            require_cells(frame.height, len(self.raw), self.bounds, str(self.path))
            yield _type(_unify(frame, self.raw) if self.form != "parquet" else frame, self)


def survey_parts(
    path: Path, form: str, dialect: Dialect, types: Mapping[str, ColumnType], bounds: Bounds
) -> PartReader:
    """Read a file once, and return what is needed to read its parts.

    Raises
    ------
    Unreadable
        if the file cannot be read, has too many rows, or has a column whose types cannot be reconciled.
    """
    raw: dict[str, Any] = {}
    rows = 0
    for frame in _iterate_raw(path, form, dialect, bounds):
        rows += frame.height
        if rows > bounds.rows:
            raise bounds.explain_more_rows(str(path))
        raw = _merge_raw(raw, frame, str(path))
    reader = PartReader(path=path, form=form, dialect=dialect, bounds=bounds, types=types, raw=raw)
    undeclared = [name for name in raw if name not in types]
    if form == "parquet" or not undeclared:
        return reader
    found: dict[str, set[ColumnType]] = {name: set() for name in undeclared}
    for frame in reader.iterate():
        for name in undeclared:
            if frame[name].null_count() < frame.height:
                found[name].add(column_type(frame[name].dtype))
    inferred = {name: _merge_types(kinds) for name, kinds in found.items() if kinds}
    return PartReader(path=path, form=form, dialect=dialect, bounds=bounds, types={**inferred, **types}, raw=raw)


def _merge_types(kinds: set[ColumnType]) -> ColumnType:
    """Return the type of a column whose parts have these types."""
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {"integer", "number"}:
        return "number"
    return "time" if kinds == {"date", "time"} else "text"


def _merge_raw(raw: dict[str, Any], frame: pl.DataFrame, name: str) -> dict[str, Any]:
    merged = dict(raw)
    for values in frame:
        before = merged.get(values.name, pl.Null)
        merged[values.name] = _merge_dtypes(before, values.dtype, f"column {values.name!r} of {name}")
    require_columns(len(merged), name)
    return merged


def _merge_dtypes(first: Any, second: Any, about: str) -> Any:
    """Return the type of JSON values of which some have one type and some another: mixed ones are text."""
    if first == second or second == pl.Null:
        return first
    if first == pl.Null:
        return second
    if {first, second} == {pl.Int64, pl.Float64}:
        return pl.Float64
    if first in _SCALARS and second in _SCALARS:
        return pl.String
    try:
        frames = [pl.DataFrame(schema={"x": kind}) for kind in (first, second)]
        return pl.concat(frames, how="vertical_relaxed").schema["x"]
    except pl.exceptions.PolarsError:
        raise Unreadable(
            f"{about} has the types {first} and {second}, and is too large to be read at once",
            "give the column one type, or split the file",
        ) from None


def _unify(frame: pl.DataFrame, raw: Mapping[str, Any]) -> pl.DataFrame:
    present = frame.schema
    return pl.DataFrame(
        [
            _convert(frame[name], dtype) if name in present else pl.Series(name, [None] * frame.height, dtype=dtype)
            for name, dtype in raw.items()
        ]
    )


def _convert(values: pl.Series, dtype: Any) -> pl.Series:
    if values.dtype == dtype:
        return values
    if dtype == pl.String and values.dtype != pl.Null:
        return pl.Series(values.name, [to_plain_text(value) for value in values.to_list()], dtype=pl.String)
    return values.cast(dtype)


def _type(frame: pl.DataFrame, reader: PartReader) -> pl.DataFrame:
    require_usable_names(frame.columns, str(reader.path))
    if reader.form == "csv":
        return type_columns(frame, reader.dialect, reader.types)
    return type_typed_columns(frame, reader.dialect, reader.types, infer=reader.form != "parquet")


def _iterate_raw(path: Path, form: str, dialect: Dialect, bounds: Bounds) -> Iterator[pl.DataFrame]:
    size = max(min(_LARGEST_PART, bounds.text_bytes // 4), 1)
    if form == "parquet":
        return _iterate_parquet(path, bounds)
    return _iterate_json(path, dialect, bounds, size) if form == "jsonl" else _iterate_csv(path, dialect, bounds, size)


def _iterate_json(path: Path, dialect: Dialect, bounds: Bounds, size: int) -> Iterator[pl.DataFrame]:
    for block in iterate_blocks(path, size, bounds, has_quotes=False):
        content = _to_utf8(block.content, dialect, path)
        if content.strip():
            require_shallow(content, str(path))
            require_json_cells(content, content.count(b"\n") + 1, bounds, str(path))
            yield parse_json(content, str(path), lines=True)


def _iterate_csv(path: Path, dialect: Dialect, bounds: Bounds, size: int) -> Iterator[pl.DataFrame]:
    separator = dialect.separator or find_default_separator(split_suffix(path.name))
    head: bytes | None = None
    for block in iterate_blocks(path, size, bounds, has_quotes=True):
        content = _to_utf8(block.content, dialect, path)
        if head is None:
            if b"\n" not in content and b"\r" in content:
                raise Unreadable(
                    f"the lines of {path} end with carriage returns, and it is too large to be read at once",
                    "end its lines with line feeds, or split the file",
                )
            head = _find_head(normalize_line_ends(content), separator, dialect)
            yield parse_delimited(content, separator, str(path), dialect, bounds=bounds)
        elif content.strip():
            lines = block.lines_before - head.count(b"\n")
            yield parse_delimited(head + content, separator, str(path), dialect, lines_before=lines, bounds=bounds)


def _find_head(content: bytes, separator: str, dialect: Dialect) -> bytes:
    """Return the lines up to the header, which each part needs; without the header if the source declares it."""
    rest = skip_first_lines(content, dialect.skip_lines)
    skipped = content[: len(content) - len(rest)]
    if dialect.header:
        return skipped
    reader: Any = iterate_records(rest, separator)
    try:
        next(record for record in reader if record)
    except (csv.Error, StopIteration):
        return skipped
    return skipped + rest[: len(rest) - len(skip_first_lines(rest, reader.line_num))]


def _to_utf8(content: bytes, dialect: Dialect, path: Path) -> bytes:
    encoding = dialect.encoding.lower().replace("_", "-")
    marked = find_mark(content)
    if encoding.startswith(("utf-16", "utf-32")) or (marked and marked[1] != "utf-8"):
        raise Unreadable(
            f"{path} is {marked[1] if marked else dialect.encoding}, and is too large to be read at once",
            "save it as UTF-8, or split the file",
        )
    return to_utf8(content, dialect.encoding, str(path))


def _iterate_parquet(path: Path, bounds: Bounds) -> Iterator[pl.DataFrame]:
    footer = require_parquet_file(path, bounds)
    for offset, rows in plan_slices(footer, bounds, str(path)):
        frame = pl.scan_parquet(path, glob=False).slice(offset, rows).collect()
        if frame.height != rows:
            raise Unreadable(f"{path} has fewer rows than its footer states", "write the file again")
        yield to_storable(frame, str(path))


def plan_slices(footer: Footer, bounds: Bounds, name: str) -> Sequence[tuple[int, int]]:
    """Return the first row and the number of rows of each part; a part has whole row groups if they are small."""
    slices: list[tuple[int, int]] = []
    offset = 0
    for group in footer.groups:
        needed = group.values * _PER_VALUE + group.stored_bytes
        if needed > bounds.memory_mb * 1_000_000:
            what = f"has a row group of {group.values:,} values and {group.stored_bytes:,} bytes without compression"
            raise bounds.explain_memory(name, needed, what)
        parts = max(-(-needed // (_LARGEST_PART * 4)), 1)
        size = max(-(-group.rows // parts), 1)
        slices += [(offset + first, min(size, group.rows - first)) for first in range(0, group.rows, size)]
        offset += group.rows
    return slices
