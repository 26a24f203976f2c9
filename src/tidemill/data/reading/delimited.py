"""Delimited text (CSV and its relatives): UTF-8 bytes become columns of text, and every row has all its values."""

import csv
import re
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from tidemill.errors import Unreadable

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
_BY_SUFFIX = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
_CHUNK = 1 << 24
_HEAD = 1 << 20
_HEAD_ROWS = 500
_CERTAIN = 0.9
_DECLARATION = re.compile(rb"sep=([,;\t|])\r?[\n\r]")  # the first line of a file for Excel
_QUOTE, _NEWLINE = 34, 10


def find_default_separator(suffix: str) -> str:
    """Return the separator of a file whose source declares none."""
    return _BY_SUFFIX.get(suffix, ",")


def parse_delimited(content: bytes, separator: str, name: str) -> pl.DataFrame:
    """Return the rows as columns of text, null where a value is empty.

    Empty lines are no rows. A nameless column gets a name by its position, `column_3`; it is absent if it has no value,
    as after a separator at the end of every line.

    Raises
    ------
    Unreadable
        if there is no header, a row has fewer or more values than the header, a quote is not closed, or a name occurs
        twice.
    """
    content = _normalize_line_ends(content)
    header = _read_header(content, separator)
    if not header:
        raise Unreadable(f"{name} is empty", "use a file with a header and rows")
    if len(header) == 1:
        _require_separator(content, separator, name)
    names = name_columns(header, name)
    try:
        frame = pl.read_csv(content, separator=separator, infer_schema=False, glob=False)
    except pl.exceptions.NoDataError:
        raise Unreadable(f"{name} is empty", "use a file with a header and rows") from None
    except pl.exceptions.PolarsError:
        frame = _parse_slowly(content, separator, header, name)
    else:
        frame = _drop_empty_lines(frame, content, separator, name)
    if b'""' in content:
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    frame.columns = names
    return frame.drop(
        label for label, given in zip(names, header, strict=True) if not given and _is_empty(frame, label)
    )


def _is_empty(frame: pl.DataFrame, column: str) -> bool:
    return bool(frame.height) and frame[column].null_count() == frame.height


def _normalize_line_ends(content: bytes) -> bytes:
    """Return the content with line feeds if its lines end with carriage returns only, and without Excel's `sep=;`."""
    if b"\n" not in content and b"\r" in content:
        content = content.replace(b"\r", b"\n")
    declared = _DECLARATION.match(content)
    return content[declared.end() :] if declared else content


def name_columns(header: Sequence[str], name: str) -> list[str]:
    """Return the names of the columns: those of the header, and `column_3` for a nameless third column.

    Raises
    ------
    Unreadable
        if two names are equal, or differ only in upper and lower case: a Delta table cannot contain both.
    """
    names = [given or f"column_{position}" for position, given in enumerate(header, 1)]
    seen: dict[str, int] = {}
    for position, column in enumerate(names, 1):
        earlier = seen.setdefault(column.casefold(), position)
        if earlier == position:
            continue
        other = names[earlier - 1]
        if other == column:
            problem = f"{name} has two columns with the name {column!r} (columns {earlier} and {position})"
        else:
            problem = f"{name} has the columns {other!r} and {column!r}, which differ only in upper and lower case"
        raise Unreadable(problem, "rename or remove one of them in the file")
    return names


def _read_header(content: bytes, separator: str) -> list[str]:
    return next((record for record in _records(content, separator) if record), [])


def _records(content: bytes, separator: str) -> Iterator[list[str]]:
    lines = (line.decode(errors="replace") for line in _lines(content))
    return csv.reader(lines, delimiter=separator)


def _lines(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        end = content.find(b"\n", start) + 1 or len(content)
        yield content[start:end]
        start = end


def detect_separator(content: bytes, default: str = ",", share_of_rows: float = 0.5) -> str:
    """Return the separator with which the header and most of the first rows have the same number of values.

    It is the default if no separator gives two values, in at least this share of the rows.
    """
    if declared := _DECLARATION.match(content):
        return declared[1].decode()
    head = _normalize_line_ends(content[:_HEAD])
    best = (False, 1, 0.0, default)
    for separator in dict.fromkeys((default, *SEPARATORS)):
        records = []
        try:
            for record in _records(head, separator):
                if record:
                    records.append(record)
                if len(records) > _HEAD_ROWS:
                    break
        except csv.Error:
            continue
        if len(content) > _HEAD and len(records) > 1:
            records.pop()  # it may be cut off
        width = len(records[0]) if records else 1
        share = sum(len(record) == width for record in records[1:]) / max(len(records) - 1, 1)
        if len(records) == 1:
            share = 1.0
        if width > 1 and share >= share_of_rows and (share >= _CERTAIN, width, share) > best[:3]:
            best = share >= _CERTAIN, width, share, separator
    return best[3]


def _require_separator(content: bytes, separator: str, name: str) -> None:
    """Raise `Unreadable` if another separator than the expected one separates the values."""
    found = detect_separator(content, separator, _CERTAIN)
    if found == separator:
        return
    written = "\\t" if found == "\t" else found
    raise Unreadable(
        f"the values of {name} are separated by {SEPARATORS[found]}, not by {SEPARATORS.get(separator, separator)}",
        f"save it with {SEPARATORS.get(separator, separator)} as the other files of its source; if all are written "
        f'so, set separator = "{written}" of the source in tidemill.toml',
    )


def _drop_empty_lines(frame: pl.DataFrame, content: bytes, separator: str, name: str) -> pl.DataFrame:
    """Return the frame without the rows of empty lines, which Polars keeps; raise `Unreadable` for incomplete rows."""
    if not frame.height or not frame[frame.columns[-1]].null_count():
        return frame
    starts, counts = _count_separators(content, separator)
    first = next(row for row in range(len(starts)) if not _is_blank(content, starts, row))
    short = np.flatnonzero(counts[first + 1 :] < frame.width - 1) + first + 1 if frame.width > 1 else None
    candidates = np.arange(first + 1, len(starts) - 1) if short is None else short
    if short is None:  # of one column, an empty line has no bytes
        lengths = np.diff(starts)[first + 1 :]
        candidates = candidates[lengths[: len(candidates)] <= 2]
    blank = [int(row) for row in candidates if _is_blank(content, starts, int(row))]
    if short is not None and (ragged := sorted(set(short.tolist()) - set(blank))):
        raise _ragged(content, separator, name, int(starts[ragged[0]]), int(counts[ragged[0]]) + 1, frame.width)
    if not blank:
        return frame
    kept = np.ones(frame.height, dtype=bool)
    kept[[row - first - 1 for row in blank if row - first - 1 < frame.height]] = False
    return frame.filter(pl.Series(kept))


def _is_blank(content: bytes, starts: "np.ndarray[tuple[int], np.dtype[np.int64]]", row: int) -> bool:
    return not content[starts[row] : starts[row + 1]].strip(b" \t\r\n")


def _count_separators(
    content: bytes, separator: str
) -> tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """Return the start of each record (and the end of the last), and its number of separators outside quotes."""
    raw = np.frombuffer(content, dtype=np.uint8)
    has_quotes = b'"' in content
    ends, totals = [], []
    inside, total = 0, 0
    for begin in range(0, len(raw), _CHUNK):
        chunk = raw[begin : begin + _CHUNK]
        is_end, is_separator = chunk == _NEWLINE, chunk == ord(separator)
        if has_quotes:
            parity = np.bitwise_xor.accumulate((chunk == _QUOTE).view(np.uint8)) ^ inside
            is_end, is_separator = is_end & (parity == 0), is_separator & (parity == 0)
            inside = int(parity[-1])
        position = np.flatnonzero(is_end)
        counted = np.cumsum(is_separator, dtype=np.int64) + total
        ends.append(position + begin + 1)
        totals.append(counted[position])
        total = int(counted[-1])
    end, count = np.concatenate(ends), np.concatenate(totals)
    if not len(end) or end[-1] != len(raw):
        end, count = np.append(end, len(raw)), np.append(count, total)
    return np.concatenate(([0], end)), np.diff(np.concatenate(([0], count)))


def _parse_slowly(content: bytes, separator: str, header: list[str], name: str) -> pl.DataFrame:
    """Return the rows of a file that Polars refuses, such as one with quotes within values, or name its fault."""
    _require_separator(content, separator, name)
    rows: list[list[str]] = []
    reader = csv.reader((line.decode() for line in _lines(content)), delimiter=separator, strict=True)
    try:
        for record in reader:
            if not record or (len(record) == 1 < len(header) and not record[0].strip()):
                continue
            if len(record) != len(header):
                raise _wrong_width(name, reader.line_num, len(record), len(header))
            rows.append(record)
    except (csv.Error, UnicodeDecodeError) as error:
        what = "a quote is not closed, or is within a value" if isinstance(error, csv.Error) else "it is not UTF-8"
        raise Unreadable(
            f"{name} cannot be read as csv, line {reader.line_num}: {what}",
            'write a quote within a value twice, and put the value in quotes: "a 5"" pipe"',
        ) from None
    columns = {f"{position}": [row[position] or None for row in rows[1:]] for position in range(len(header))}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _ragged(content: bytes, separator: str, name: str, start: int, values: int, width: int) -> Unreadable:
    try:
        _require_separator(content, separator, name)
    except Unreadable as other:
        return other
    return _wrong_width(name, content.count(b"\n", 0, start) + 1, values, width)


def _wrong_width(name: str, line: int, values: int, width: int) -> Unreadable:
    plural = "" if values == 1 else "s"
    return Unreadable(
        f"line {line} of {name} has {values} value{plural}, but the header has {width}",
        "correct the line, and put a value that contains the separator in quotes",
    )
