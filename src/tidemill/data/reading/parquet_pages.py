"""Checks that the pages of a Parquet file are what its footer states, before a reader allocates what they ask for.

A reader trusts the numbers in the headers of pages: one false number makes it ask for more memory than any machine has,
which ends the process instead of raising an error.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tidemill.data.reading.parquet_footer import MALFORMED, RECORD, Record, RecordReader
from tidemill.errors import Unreadable

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADERS = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
_MOST_HEADER = 1 << 20


class Page(NamedTuple):
    """What the header of a page states; `header` is the record of its kind."""

    kind: int
    compressed: int
    uncompressed: int
    values: int
    header: dict[int, Any]


def require_pages(content: Any, footer: Record, end: int, name: str) -> list[int]:
    """Return the bytes of the pages of each row group without compression.

    Parameters
    ----------
    content : the bytes of the file, in memory or mapped.
    footer : its footer, as `RecordReader` reads it.
    end : the position of the footer.

    Raises
    ------
    Unreadable
        if a number of the footer or of a page is false.
    """
    try:
        return _check_groups(content, footer, end)
    except (_False, *MALFORMED) as error:
        problem = str(error) if isinstance(error, _False) else "a field of its footer is absent, or of another type"
        raise Unreadable(
            f"{name} is damaged: {problem}", "copy the complete file again, or write it again with its program"
        ) from None


class _False(Exception):
    """A number is false; the message says which."""


def _check_groups(content: Any, footer: Record, end: int) -> list[int]:
    stored = rows = 0
    sizes = []
    for index, group in enumerate(footer.get(4, []), 1):
        rows += group[3]
        sizes.append(0)
        for chunk in group[1]:
            column = chunk.get(3)
            if column is None or chunk.get(1):
                raise _False(f"a column of row group {index} is not in the file")
            where = f"column {b'.'.join(column[3]).decode(errors='replace')!r} of row group {index}"
            if column[5] < group[3]:
                raise _False(f"{where} has {column[5]:,} values for {group[3]:,} rows")
            stored += column[7]
            if column[7] < 0 or stored > end:
                raise _False(f"its columns have more bytes than the file ({where})")
            sizes[-1] += _check_column(content, column, end, where)
    if rows != footer[3]:
        raise _False(f"its footer states {footer[3]:,} rows, and its row groups {rows:,}")
    return sizes


def _check_column(content: Any, column: Record, end: int, where: str) -> int:
    values = uncompressed = 0
    for page in _iterate_pages(content, column, end, where):
        uncompressed += page.uncompressed
        if page.kind == _DICTIONARY:
            if page.values > page.uncompressed:
                raise _False(f"the dictionary of {where} has {page.values:,} values in {page.uncompressed:,} bytes")
            continue
        values += page.values
        if values > column[5]:
            raise _False(f"the pages of {where} have more values than the {column[5]:,} of the footer")
        if page.kind == _DATA_V2:
            nulls, levels = page.header[2], (page.header[5], page.header[6])
            if not 0 <= nulls <= page.values or min(levels) < 0 or sum(levels) > page.compressed:
                raise _False(f"a page of {where} has {nulls:,} nulls in {page.values:,} values, and levels of {levels}")
    return uncompressed


def _iterate_pages(content: Any, column: Record, end: int, where: str) -> Iterator[Page]:
    """Yield the pages of a column until they have all its values."""
    starts = [column[number] for number in (9, 11) if column.get(number, 0) > 0]
    position, values = min(starts, default=0), 0
    while values < column[5]:
        if not 4 <= position < end:
            raise _False(f"a page of {where} is outside of the file")
        reader = RecordReader(content, position, min(end, position + _MOST_HEADER))
        try:
            header = reader.read(RECORD)
            kind, uncompressed, compressed = header[1], header[2], header[3]
            inner = header[_HEADERS[kind]] if kind in _HEADERS else {}
            page = Page(kind, compressed, uncompressed, inner[1] if kind in _HEADERS else 0, inner)
            if kind == _DATA_V2:
                inner[2], inner[5], inner[6]
        except MALFORMED:
            raise _False(f"the header of a page of {where} cannot be read") from None
        if min(page.compressed, page.uncompressed, page.values) < 0 or page.compressed > end - reader.position:
            raise _False(f"a page of {where} has {page.compressed:,} bytes, {page.values:,} values")
        yield page
        position = reader.position + page.compressed
        values += page.values if kind != _DICTIONARY else 0
