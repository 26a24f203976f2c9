"""The footer of a Parquet file: its rows, columns, values and bytes, read without reading any row.

Polars reports the rows and columns, but not the values of lists and the bytes without compression, which show how much
memory the rows need. The footer is a record in the compact protocol of Thrift.
"""

from typing import Any, NamedTuple

_MAGIC = b"PAR1"
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, RECORD = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_DEEPEST = 20
Record = dict[int, Any]
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What is raised where a record lacks a field, or where one has another type."""


class RowGroup(NamedTuple):
    """What a footer states about a row group: its rows, its values and their bytes without compression."""

    rows: int
    values: int
    stored_bytes: int


class Footer(NamedTuple):
    """What a footer states about its file."""

    rows: int
    columns: int
    groups: tuple[RowGroup, ...]

    @property
    def values(self) -> int:
        """Return the number of values of all row groups."""
        return sum(group.values for group in self.groups)

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of all row groups without compression."""
        return sum(group.stored_bytes for group in self.groups)


def find_footer_size(content: Any) -> int:
    """Return the number of bytes of the footer; 0 if the end of the file is not that of Parquet."""
    size = int.from_bytes(content[-8:-4], "little")
    return size if bytes(content[-4:]) == _MAGIC and size <= len(content) - 8 else 0


def read_record(content: Any) -> Record | None:
    """Return the footer of a file in memory or mapped, by the numbers of its fields; None if it cannot be read."""
    size = find_footer_size(content)
    try:
        return dict(RecordReader(bytes(content[-8 - size : -8])).read(RECORD)) if size else None
    except MALFORMED:
        return None


def read_footer(content: Any) -> Footer | None:
    """Return what the footer states; None if it cannot be read, which reading the rows then explains."""
    record = read_record(content)
    return None if record is None else summarize_footer(record)


def summarize_footer(record: Record) -> Footer | None:
    """Return what a footer states; None if a number is absent or negative.

    The numbers are those of the footer's fields: 3 and 4 of the file, 1 and 3 of a row group, 3 of a column, and 5 and
    6 of its metadata.
    """
    try:
        leaves = [element for element in record[2] if not element.get(5)]
        groups = tuple(_read_group(group) for group in record.get(4, []))
        return Footer(rows=record[3], columns=len(leaves), groups=groups) if record[3] >= 0 else None
    except MALFORMED:
        return None


def _read_group(group: Record) -> RowGroup:
    chunks = [chunk[3] for chunk in group[1]]
    numbers = (group[3], sum(chunk[5] for chunk in chunks), sum(chunk[6] for chunk in chunks))
    if min(numbers) < 0:
        raise ValueError(numbers)
    return RowGroup(*numbers)


class RecordReader:
    """Reads values of the compact protocol, from `position` to `end`; a record is a dictionary by its field numbers."""

    def __init__(self, content: Any, position: int = 0, end: int | None = None) -> None:
        self._content = content
        self._end = len(content) if end is None else end
        self.position = position

    def read(self, kind: int, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise ValueError
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._take(1)[0]
        if kind in _INTEGERS:
            number = self._read_number()
            return (number >> 1) ^ -(number & 1)
        if kind == _DOUBLE:
            return self._take(8)
        if kind == _BINARY:
            return self._take(self._read_number())
        if kind in (_LIST, _SET):
            return self._read_list(depth)
        if kind == _MAP:
            return self._read_map(depth)
        if kind == RECORD:
            return self._read_record(depth)
        raise ValueError(kind)

    def _take(self, size: int) -> bytes:
        start = self.position
        self.position += size
        if self.position > self._end:
            raise IndexError
        return bytes(self._content[start : self.position])

    def _read_number(self) -> int:
        number = shift = 0
        while True:
            byte: int = self._content[self.position]
            self.position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
            if shift > 63:
                raise ValueError

    def _read_list(self, depth: int) -> list[Any]:
        head = self._take(1)[0]
        count, kind = head >> 4, head & 0x0F
        if count == 15:
            count = self._read_number()
        if count > self._end - self.position:
            raise ValueError
        if kind in (_TRUE, _FALSE):
            return [self._take(1)[0] == _TRUE for _ in range(count)]
        return [self.read(kind, depth + 1) for _ in range(count)]

    def _read_map(self, depth: int) -> dict[Any, Any]:
        count = self._read_number()
        if not count:
            return {}
        if count > self._end - self.position:
            raise ValueError
        kinds = self._take(1)[0]
        for _ in range(count):
            self.read(kinds >> 4, depth + 1)
            self.read(kinds & 0x0F, depth + 1)
        return {}

    def _read_record(self, depth: int) -> dict[int, Any]:
        record: dict[int, Any] = {}
        number = 0
        while head := self._take(1)[0]:
            delta, kind = head >> 4, head & 0x0F
            if delta:
                number += delta
            else:
                encoded = self._read_number()
                number = (encoded >> 1) ^ -(encoded & 1)
            record[number] = self.read(kind, depth + 1)
        return record
