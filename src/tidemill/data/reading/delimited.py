"""Delimited text (CSV and its relatives): UTF-8 bytes become columns of text, and every row has all its values."""

import csv
import io
import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from tidemill.core.dialect import Dialect
from tidemill.data.reading.bounds import Bounds, require_cells, require_columns
from tidemill.data.reading.layout import (
    SEPARATORS,
    detect_separator,
    find_preamble,
    has_spaces,
    iterate_lines,
    iterate_records,
    looks_like_row,
    normalize_line_ends,
    skip_first_lines,
)
from tidemill.errors import TooMuchMemory, Unreadable

_CHUNK = 1 << 24
_SHORT = 1 << 14
_CERTAIN = 0.9
_QUOTE, _NEWLINE = 34, 10
_PLAIN = Dialect()


def parse_delimited(
    content: bytes,
    separator: str,
    name: str,
    dialect: Dialect = _PLAIN,
    *,
    lines_before: int = 0,
    bounds: Bounds | None = None,
) -> pl.DataFrame:
    """Return the rows as columns of text, null where a value is empty; the dialect has the layout of the file.

    `lines_before` is the number of lines of the file before those of a part, for messages.

    Empty lines are no rows. A nameless column gets a name by its position, `column_3`; it is absent if it has no value,
    as after a separator at the end of every line.

    Raises
    ------
    Unreadable
        if there is no header, a row has fewer or more values than the header, a quote is not closed, or a name occurs
        twice.
    """
    whole = normalize_line_ends(content)
    content = skip_first_lines(whole, dialect.skip_lines)
    if dialect.trim and re.search(b'[%b] +"|" +[%b]' % (separator.encode(), separator.encode()), content):
        content = _join_quotes(content, separator, name)
    header = _read_header(content, separator, name)
    if not header:
        raise Unreadable(f"{name} is empty", "use a file with a header and rows")
    require_columns(len(header), name)
    before = dialect.skip_lines + lines_before
    if dialect.header:
        content, header = _add_header(content, header, separator, name, dialect)
        before -= 1
    _require_header(whole, header, separator, name, dialect)
    if dialect.trim:
        header = [column.strip() for column in header]
    names = name_columns(header, name)
    if bounds is not None:
        _require_cells(content, separator, len(header), bounds, name, before)
    frame = _split_plain(content, separator, len(header))
    if frame is None:
        frame = _parse(content, separator, header, name, before)
    if dialect.trim:
        frame = frame.with_columns(pl.all().str.strip_chars(" "))
    if b'""' in content or dialect.trim:
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    frame.columns = names
    unused = [label for label, given in zip(names, header, strict=True) if not given and _is_empty(frame, label)]
    return frame.drop(unused) if unused else frame


def _split_plain(content: bytes, separator: str, width: int) -> pl.DataFrame | None:
    """Return the rows of a short file without quotes whose lines are all complete, else None.

    Polars takes almost a millisecond to start reading a file, which is most of the time of a small one.
    """
    if len(content) > _SHORT or b'"' in content or b"\r" in content:
        return None
    try:
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return None
    rows = [line.split(separator) for line in lines[1:]]
    if not rows or not all(lines) or any(len(row) != width for row in rows):
        return None
    columns = {
        f"{position}": [value or None for value in column] for position, column in enumerate(zip(*rows, strict=True))
    }
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _parse(content: bytes, separator: str, header: list[str], name: str, before: int) -> pl.DataFrame:
    try:
        frame = pl.read_csv(content, separator=separator, infer_schema=False, glob=False)
    except pl.exceptions.NoDataError:
        raise Unreadable(f"{name} is empty", "use a file with a header and rows") from None
    except pl.exceptions.PolarsError:
        return _parse_slowly(content, separator, header, name, before)
    return _drop_empty_lines(frame, content, separator, name, before)


def _join_quotes(content: bytes, separator: str, name: str) -> bytes:
    """Return the content without spaces between a separator and a quote, where a quote has no meaning."""
    text = io.StringIO()
    reader = iterate_records(content, separator, trim=True)
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    try:
        writer.writerows(reader)
    except csv.Error as error:
        raise _explain(error, name, "its values") from None
    return text.getvalue().encode()


def _add_header(
    content: bytes, first: list[str], separator: str, name: str, dialect: Dialect
) -> tuple[bytes, list[str]]:
    """Return the content with the declared names as its header, unless it has this header."""
    declared = list(dialect.header)
    if [value.strip() for value in first] == declared:
        return content, declared
    if len(first) != len(declared):
        raise Unreadable(
            f"the first row of {name} has {len(first)} values, but its source has {len(declared)} names in `header`",
            "correct `header` of the source in tidemill.toml (--header of `init`), or the file",
        )
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerow(declared)
    return text.getvalue().encode() + content, declared


def _require_header(whole: bytes, header: list[str], separator: str, name: str, dialect: Dialect) -> None:
    """Raise `Unreadable` if the file has another separator or layout than its source."""
    if len(header) == 1 and not dialect.header:
        _require_separator(whole, separator, name)
    if has_spaces(header) and not dialect.trim:
        raise Unreadable(
            f"the names and values of {name} have a space after the separator",
            "remove these spaces, as in the other files of its source; if all files have them, set trim = true of the "
            "source in tidemill.toml",
        )
    first = _read_header(whole, separator, name)
    is_shifted = bool(dialect.skip_lines) and looks_like_row(header) and not looks_like_row(first)
    found = 0 if is_shifted else find_preamble(whole, separator)
    if dialect.header or found == dialect.skip_lines or not (found or is_shifted):
        return
    raise Unreadable(
        f"the header of {name} is on line {found + 1}, not on line {dialect.skip_lines + 1}",
        "write the file as the other files of its source; if all files are written so, set "
        f"skip_lines = {found} of the source in tidemill.toml",
    )


def _is_empty(frame: pl.DataFrame, column: str) -> bool:
    return bool(frame.height) and frame[column].null_count() == frame.height


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


def _read_header(content: bytes, separator: str, name: str) -> list[str]:
    try:
        return next((record for record in iterate_records(content, separator) if record), [])
    except csv.Error as error:
        raise _explain(error, name, "its header") from None


def _explain(error: csv.Error, name: str, where: str) -> Unreadable:
    """Return an error of Python's reader, which Polars refuses or reads otherwise, with its cure."""
    if "new-line" in str(error):
        return Unreadable(
            f"{name} cannot be read as csv, {where}: a carriage return is within a value that is not in quotes",
            "end all lines alike, with a line feed, and put a value that contains a carriage return in quotes",
        )
    if "field larger" in str(error):
        return Unreadable(
            f"{name} cannot be read as csv, {where}: a value is longer than {csv.field_size_limit():,} characters",
            "close its quotes, or shorten it",
        )
    return Unreadable(
        f"{name} cannot be read as csv, {where}: a quote is not closed, or is within a value",
        'write a quote within a value twice, and put the value in quotes: "a 5"" pipe"',
    )


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


def _drop_empty_lines(frame: pl.DataFrame, content: bytes, separator: str, name: str, before: int) -> pl.DataFrame:
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
        line = content.count(b"\n", 0, int(starts[ragged[0]])) + 1 + before
        raise _ragged(content, separator, name, line, int(counts[ragged[0]]) + 1, frame.width)
    if not blank:
        return frame
    kept = np.ones(frame.height, dtype=bool)
    kept[[row - first - 1 for row in blank if row - first - 1 < frame.height]] = False
    return frame.filter(pl.Series(kept))


def _require_cells(content: bytes, separator: str, width: int, bounds: Bounds, name: str, before: int) -> None:
    """Raise if the table is beyond the bounds: Polars completes short rows, so that few bytes become many values."""
    try:
        require_cells(content.count(b"\n") + 1, width, bounds, name)
    except TooMuchMemory:
        starts, counts = _count_separators(content, separator)
        short = (int(row) for row in np.flatnonzero(counts < width - 1) if not _is_blank(content, starts, int(row)))
        if (row := next(short, None)) is not None:
            line = content.count(b"\n", 0, int(starts[row])) + 1 + before
            raise _ragged(content, separator, name, line, int(counts[row]) + 1, width) from None
        require_cells(len(starts) - 1, width, bounds, name)


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


def _parse_slowly(content: bytes, separator: str, header: list[str], name: str, before: int) -> pl.DataFrame:
    """Return the rows of a file that Polars refuses, such as one with quotes within values, or name its fault."""
    _require_separator(content, separator, name)
    rows: list[list[str]] = []
    reader = csv.reader((line.decode() for line in iterate_lines(content)), delimiter=separator, strict=True)
    try:
        for record in reader:
            if not record or (len(record) == 1 < len(header) and not record[0].strip()):
                continue
            if len(record) != len(header):
                raise _wrong_width(name, reader.line_num + before, len(record), len(header))
            rows.append(record)
    except csv.Error as error:
        raise _explain(error, name, f"line {reader.line_num + before}") from None
    except UnicodeDecodeError:
        raise Unreadable(
            f"{name} cannot be read as csv, line {reader.line_num + before}: it is not UTF-8", "save the file as UTF-8"
        ) from None
    columns = {f"{position}": [row[position] or None for row in rows[1:]] for position in range(len(header))}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _ragged(content: bytes, separator: str, name: str, line: int, values: int, width: int) -> Unreadable:
    try:
        _require_separator(content, separator, name)
    except Unreadable as other:
        return other
    return _wrong_width(name, line, values, width)


def _wrong_width(name: str, line: int, values: int, width: int) -> Unreadable:
    plural = "" if values == 1 else "s"
    cure = "correct the line, and put a value that contains the separator in quotes"
    if values > width and line <= _HEAD_LINES:
        cure += (
            "; if the lines before the header are a title or comments, skip them: --skip-lines of `init`, "
            "or `skip_lines` of the source"
        )
    return Unreadable(f"line {line} of {name} has {values} value{plural}, but the header has {width}", cure)


_HEAD_LINES = 30
