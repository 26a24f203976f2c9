"""The layout of delimited text: lines before the header, the separator, spaces around values, rows without a header."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tidemill.data.timestamps import parse_timestamp

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
_BY_SUFFIX = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
_HEAD = 1 << 20
_HEAD_ROWS = 500
_CERTAIN = 0.9
_DECLARATION = re.compile(rb"sep=([,;\t|])\r?[\n\r]")  # the first line of a file for Excel
_MOST_LINES = 50
_LONGEST = 1 << 30  # characters of a value; the default of Python is 131,072
_NUMBER = re.compile(r"^[^\w(]?\(?[+-]?[0-9][0-9.,' ]*(?:[eE][+-]?[0-9]+)?\W{0,3}$")


class Record(NamedTuple):
    """The values of a record, and the number of lines before it."""

    line: int
    values: list[str]


class Layout(NamedTuple):
    """The separator and the number of lines before the header."""

    separator: str
    skip_lines: int


def find_default_separator(suffix: str) -> str:
    """Return the separator of a file whose source declares none."""
    return _BY_SUFFIX.get(suffix, ",")


def normalize_line_ends(content: bytes) -> bytes:
    """Return the content with line feeds if its lines end with carriage returns only, and without Excel's `sep=;`."""
    if b"\n" not in content and b"\r" in content:
        content = content.replace(b"\r", b"\n")
    declared = _DECLARATION.match(content)
    return content[declared.end() :] if declared else content


def iterate_lines(content: bytes) -> Iterator[bytes]:
    """Yield the lines of a content, with their ends."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start) + 1 or len(content)
        yield content[start:end]
        start = end


def iterate_records(content: bytes, separator: str, *, trim: bool = False) -> Iterator[list[str]]:
    """Yield the records of a content, also the empty ones."""
    csv.field_size_limit(_LONGEST)
    lines = (line.decode(errors="replace") for line in iterate_lines(content))
    return csv.reader(lines, delimiter=separator, skipinitialspace=trim)


def skip_first_lines(content: bytes, count: int) -> bytes:
    """Return the content after its first lines."""
    start = 0
    for _ in range(count):
        start = content.find(b"\n", start) + 1
        if not start:
            return b""
    return content[start:]


def detect_layout(content: bytes, default: str = ",") -> Layout:
    """Return the separator, and how many lines come before the header: a title, comments, or other facts."""
    separator = detect_separator(content, default)
    if skipped := find_preamble(content, separator):
        return Layout(separator, skipped)
    head = read_head(content, separator)
    widths = [len(record.values) for record in head]
    if widths and not _is_comment(head[0]) and widths[0] > 1 and widths.count(widths[0]) >= _CERTAIN * len(widths):
        return Layout(separator, 0)
    found = [Layout(other, find_preamble(content, other)) for other in SEPARATORS]
    by_width = {layout: len(_find_record(content, layout)) for layout in found if layout.skip_lines}
    if best := max(by_width, key=lambda layout: by_width[layout], default=None):
        return best
    return Layout(separator if widths and widths[0] > 1 else _find_frequent(content, default), 0)


def _find_record(content: bytes, layout: Layout) -> list[str]:
    rest = skip_first_lines(normalize_line_ends(content), layout.skip_lines)
    return next((record.values for record in read_head(rest, layout.separator)), [])


def _find_frequent(content: bytes, default: str) -> str:
    """Return the separator that the header and nearly every row contain, of a file whose rows differ in width."""
    for separator in dict.fromkeys((default, *SEPARATORS)):
        widths = [len(record.values) for record in read_head(content, separator)]
        if widths and widths[0] > 1 and sum(width > 1 for width in widths) >= _CERTAIN * len(widths):
            return separator
    return default


def read_head(content: bytes, separator: str) -> list[Record]:
    """Return the first records that are not empty lines; nothing if they cannot be read."""
    head = normalize_line_ends(content[:_HEAD])
    trim = re.search(re.escape(separator.encode()) + b' +"', head) is not None
    records: list[Record] = []
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(
        (line.decode(errors="replace") for line in iterate_lines(head)), delimiter=separator, skipinitialspace=trim
    )
    line = 0
    try:
        for values in reader:
            if any(value.strip() for value in values) or len(values) > 1:
                records.append(Record(line, values))
            line = reader.line_num
            if len(records) > _HEAD_ROWS:
                break
    except csv.Error:
        return []
    if len(content) > _HEAD and len(records) > 1:
        records.pop()  # it may be cut off
    return records


def detect_separator(content: bytes, default: str = ",", share_of_rows: float = 0.5) -> str:
    """Return the separator with which the header and most of the first rows have the same number of values.

    It is the default if no separator gives two values, in at least this share of the rows.
    """
    if declared := _DECLARATION.match(content):
        return declared[1].decode()
    best = (False, 1, 0.0, default)
    for separator in dict.fromkeys((default, *SEPARATORS)):
        records = read_head(content, separator)
        width = len(records[0].values) if records else 1
        share = sum(len(record.values) == width for record in records[1:]) / max(len(records) - 1, 1)
        if len(records) == 1:
            share = 1.0
        if width > 1 and share >= share_of_rows and (share >= _CERTAIN, width, share) > best[:3]:
            best = share >= _CERTAIN, width, share, separator
    return best[3]


def find_preamble(content: bytes, separator: str) -> int:
    """Return how many lines come before the header, 0 if the first line may be the header.

    The header is the first record as wide as nearly all records after it, if its values are names. The lines before it
    are narrower or nearly empty. A single line that lacks one name is a header without the name of the row numbers.
    """
    records = read_head(content, separator)
    widths = [len(record.values) for record in records]
    last = widths[len(widths) // 2 :]
    width = max(set(last), key=last.count, default=1)
    if width < 2:
        return 0
    indices = (index for index, record in enumerate(records) if _is_full(record.values, width))
    first = next(indices, 0)
    later = widths[first:]
    if not first or first > _MOST_LINES or later.count(width) < _CERTAIN * len(later):
        return 0
    before, header = records[:first], records[first]
    lines = [record for record in before if not _is_comment(record)]
    if any(len(record.values) > width for record in lines):
        return 0
    if len(before) == len(lines) == 1 < len(lines[0].values) == width - 1 and header.line == lines[0].line + 1:
        return 0
    names = [value.strip() for value in header.values]
    is_header = len(set(names)) == len(names) and names.count("") <= 1 and not looks_like_row(names)
    return header.line if is_header else 0


def _is_comment(record: Record) -> bool:
    return record.values[0].lstrip().startswith("#")


def _is_full(values: Sequence[str], width: int) -> bool:
    """Return whether a record has a number of values, and of three or more at least two are not empty."""
    return len(values) == width and (width < 3 or sum(bool(value.strip()) for value in values) > 1)


def looks_like_row(names: Sequence[str]) -> bool:
    """Return whether the values of a header are those of a row: one is a number or a time.

    Names and increasing integers, such as years, are a header.
    """
    texts = [name.strip() for name in names]
    numbers = [text for text in texts if _NUMBER.match(text) or _is_time(text)]
    if not numbers:
        return False
    counts = [int(text) for text in numbers if text.isdecimal()]
    increasing = 1 < len(counts) == len(numbers) < len(texts) and all(
        before < after for before, after in pairwise(counts)
    )
    return not increasing


def _is_time(text: str) -> bool:
    try:
        parse_timestamp(text)
    except (ValueError, OverflowError):
        return False
    return True


def has_spaces(names: Sequence[str]) -> bool:
    """Return whether a space follows each separator of a header."""
    return len(names) > 1 and all(name.startswith(" ") for name in names[1:])


def find_spaces(content: bytes, separator: str) -> bool:
    """Return whether a space follows each separator in the header, or nearly each one in the first rows."""
    head = normalize_line_ends(content[:_HEAD])
    records = []
    try:
        for values in iterate_records(head, separator):
            records.append(values)
            if len(records) > _HEAD_ROWS:
                break
    except csv.Error:
        return False
    if records and has_spaces(records[0]):
        return True
    others = [value for values in records for value in values[1:] if value]
    return bool(others) and sum(value.startswith(" ") for value in others) >= _CERTAIN * len(others)
