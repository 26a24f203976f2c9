"""Forges Parquet files: numbers in their footers and page headers are replaced by others, and bytes by random ones."""

import io
import random
from contextlib import suppress
from typing import Any

import polars as pl

from tidemill.data.reading.parquet_footer import RECORD, RecordReader, find_footer_size

_NUMBERS = (0, 1, 2, 3, 7, 64, 127, 1000, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2 * 10**12, 2**62, 2**63 - 1, 2**64 - 1)


class _Recorder(RecordReader):
    """Remembers where each number of a record is, and the numbers of the fields that lead to it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.numbers: list[tuple[int, int]] = []

    def _read_number(self) -> int:
        begin = self.position
        number = super()._read_number()
        self.numbers.append((begin, self.position))
        return number


def make_file(rows: int = 200, **options: Any) -> bytes:
    """Return a Parquet file with columns of several types, in two row groups."""
    frame = pl.DataFrame(
        {
            "number": range(rows),
            "share": [index / 7 if index % 5 else None for index in range(rows)],
            "name": [f"n{index % 9}" for index in range(rows)],
            "is_late": [index % 3 == 0 for index in range(rows)],
            "values": [[index, index + 1] for index in range(rows)],
            "inner": [{"a": index, "b": "x" * (index % 4)} for index in range(rows)],
            "same": ["equal"] * rows,
        }
    ).with_columns(pl.from_epoch("number").alias("time"))
    sink = io.BytesIO()
    frame.write_parquet(sink, row_group_size=max(rows // 2, 1), **options)
    return sink.getvalue()


def forge(content: bytes, seed: int) -> bytes:
    """Return a file of which a footer's number, a page's number, or some bytes are false."""
    chance = random.Random(seed)
    kind = chance.choice(("footer", "footer", "page", "bytes", "footer bytes", "cut"))
    size = find_footer_size(content)
    if kind == "footer":
        return _forge_footer(content, chance, chance.choice((1, 1, 1, 2, 5)))
    if kind == "page":
        return _forge_page(content, chance)
    if kind == "cut":
        start, end = sorted(chance.sample(range(4, len(content) - 8), 2))
        return content[:start] + content[min(end, start + chance.choice((1, 8, 100))) :]
    changed = bytearray(content)
    begin = len(content) - 8 - size if kind == "footer bytes" else 4
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(begin, len(content) - 8)] = chance.choice(
            (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
        )
    return bytes(changed)


def replace_in_footer(content: bytes, field: tuple[int, ...], number: int) -> bytes:
    """Return a file whose footer has another number in a field, by its path of fields and positions in lists."""
    size = find_footer_size(content)
    footer = _replace_number(content[-8 - size : -8], field, number)
    return content[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def replace_in_page(content: bytes, field: tuple[int, ...], number: int) -> bytes:
    """Return a file whose last page has another number in a field of its header."""
    size = find_footer_size(content)
    record = RecordReader(content[-8 - size : -8]).read(RECORD)
    start = max(chunk[3][9] for group in record[4] for chunk in group[1])
    header = content[start : -8 - size]
    return content[:start] + _replace_number(header, field, number) + content[-8 - size :]


def _replace_number(record: bytes, field: tuple[int, ...], number: int) -> bytes:
    """Replace a number; the right one is that whose replacement changes the field."""
    plain = _find(_Recorder(record).read(RECORD), field)
    reader = _Recorder(record)
    reader.read(RECORD)
    zigzag = (number << 1 ^ number >> 63) & (1 << 64) - 1
    for begin, end in reader.numbers:
        changed = record[:begin] + _encode(zigzag) + record[end:]
        with suppress(LookupError, ValueError, TypeError):
            if _find(RecordReader(changed).read(RECORD), field) == number != plain:
                return changed
    raise AssertionError(field)


def _find(record: Any, field: tuple[int, ...]) -> Any:
    for part in field:
        record = record[part]
    return record


def _forge_footer(content: bytes, chance: random.Random, count: int) -> bytes:
    size = find_footer_size(content)
    body, footer = content[: -8 - size], content[-8 - size : -8]
    for _ in range(count):
        reader = _Recorder(footer)
        with suppress(LookupError, ValueError, TypeError):
            reader.read(RECORD)
        begin, end = chance.choice(reader.numbers)
        footer = footer[:begin] + _encode(chance.choice(_NUMBERS)) + footer[end:]
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _forge_page(content: bytes, chance: random.Random) -> bytes:
    """Replace a number in the header of a page by another one, which may have more bytes."""
    size = find_footer_size(content)
    record = RecordReader(content[-8 - size : -8]).read(RECORD)
    chunks = [chunk[3] for group in record[4] for chunk in group[1]]
    chunk = chance.choice(chunks)
    start = chance.choice([chunk[number] for number in (9, 11) if number in chunk])
    reader = _Recorder(content[start : -8 - size])
    reader.read(RECORD)
    begin, end = chance.choice(reader.numbers)
    number = chance.choice((*_NUMBERS, *(1 << 7 * (end - begin) - 1,) * 5, *((1 << 7 * (end - begin)) - 1,) * 5))
    changed = _encode(number)
    if len(changed) < end - begin:  # longer forms of small numbers are read too
        changed = changed[:-1] + bytes([changed[-1] | 0x80]) + b"\x80" * (end - begin - len(changed) - 1) + b"\0"
    return content[: start + begin] + changed + content[start + end :]


def _encode(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
