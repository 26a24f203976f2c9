"""JSON Lines, and JSON with an array of records: values keep their types; mixed types become text."""

import json
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import polars as pl

from tidemill.data.reading.delimited import name_columns
from tidemill.errors import Unreadable

# Polars reads NaN and Infinity not at all, and half of a character as the character zero.
_SPECIAL = re.compile(
    rb"NaN|Infinity|\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_INTEGER_128 = 2**127
_CURE = "check that the file is complete and of that format"


def parse_json(content: bytes, name: str, *, lines: bool) -> pl.DataFrame:
    """Return the records of JSON Lines, or of an array; a column is absent if no record has it.

    NaN is null, as in CSV. An integer and a fraction in one column are numbers; other mixed types are text.

    Raises
    ------
    Unreadable
        if the content is not valid, or a record is not an object.
    """
    start = content.lstrip()[:1]
    if not start:
        raise Unreadable(f"{name} is empty", "use a file with rows")
    if lines or start == b"{":
        return _parse_lines(content, name)
    if start != b"[":
        raise Unreadable(f"{name} cannot be read as json: it is not an array of records", _CURE)
    try:
        records = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{name} cannot be read as json: {error}", _CURE) from None
    return _to_frame(((position, record) for position, record in enumerate(records, 1)), name, "record")


def _parse_lines(content: bytes, name: str) -> pl.DataFrame:
    if not _SPECIAL.search(content):
        try:
            frame = pl.read_ndjson(BytesIO(content), infer_schema_length=None)  # names may stand far down
        except pl.exceptions.PolarsError:
            pass
        else:
            if not frame.width:
                raise Unreadable(f"{name} is empty", "use a file with rows")
            name_columns(frame.columns, name)
            return pl.DataFrame([frame[column] for column in _list_names(content, frame.width)])
    return _to_frame(_decode_lines(content, name), name, "line")


def _list_names(content: bytes, count: int) -> list[str]:
    """Return the names of the columns in the order of the file, which Polars does not keep for more than 32 names."""
    names: dict[str, None] = {}
    for line in BytesIO(content):
        if line.strip():
            names |= dict.fromkeys(json.loads(line))
        if len(names) == count:
            break
    return list(names)


def _decode_lines(content: bytes, name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"line {number} of {name} cannot be read as jsonl: {error}", _CURE) from None


def _to_frame(records: Iterable[tuple[int, Any]], name: str, noun: str) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {}
    height = 0
    for number, record in records:
        if not isinstance(record, dict):
            raise Unreadable(f"{noun} {number} of {name} is not an object", "write one object for each row")
        for key, value in record.items():
            column = columns.get(key)
            if column is None:
                column = columns[key] = []
            column += [None] * (height - len(column))
            column.append(value)
        height += 1
    if not columns:
        raise Unreadable(f"{name} is empty", "use a file with rows")
    name_columns(list(columns), name)
    for column in columns.values():
        column += [None] * (height - len(column))
    try:
        return pl.DataFrame([to_series(key, column) for key, column in columns.items()])
    except UnicodeEncodeError as error:
        raise Unreadable(
            f"{name} has a text with {error.object[error.start]!a}, which is half of a character",
            "remove it from the text, or write the whole character",
        ) from None


def to_series(name: str, values: list[Any]) -> pl.Series:
    """Return Python values as a column: NaN is null, mixed types are text."""
    known = [None if value != value else value for value in values]
    types = {type(value) for value in known} - {type(None)}
    if types == {int} and all(value is None or abs(value) < _INTEGER_128 for value in known):
        numbers = pl.Series(name, known, dtype=pl.Int128)
        short = numbers.cast(pl.Int64, strict=False)
        return short if short.null_count() == numbers.null_count() else numbers
    if types == {int, float}:
        return pl.Series(name, [None if value is None else float(value) for value in known], dtype=pl.Float64)
    if len(types) <= 1 or types <= {list} or types <= {dict}:
        try:
            return pl.Series(name, known, strict=not types & {list, dict})
        except (pl.exceptions.PolarsError, TypeError, OverflowError):
            pass
    return pl.Series(name, [to_plain_text(value) for value in known], dtype=pl.String)


def to_plain_text(value: Any) -> str | None:
    """Return a value as text: a whole number without a fraction, anything else as in JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, default=str, ensure_ascii=False).strip('"')
