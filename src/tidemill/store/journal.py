"""The journal: rows that arrive, in columnar segments that are there whole or not at all."""

import os
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import polars as pl

from tidemill.errors import DataError

_NAME = re.compile(r"(\d+)-(\d+)-[0-9a-f]+\.arrow$")


class FileJournal:
    """Segments as Arrow files in one folder for each kind, named by the span of `known_at` inside (µs)."""

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, kind: str, frame: pl.DataFrame) -> None:
        """Write rows that have a UTC column `known_at`."""
        if frame.is_empty():
            return
        if frame.schema.get("known_at") != pl.Datetime("us", "UTC"):
            raise DataError(f"rows for the journal {kind!r} have no UTC column 'known_at'", "add it")
        first, last = _micros(frame["known_at"].min()), _micros(frame["known_at"].max())
        folder = self._folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        unique = uuid.uuid4().hex[:12]
        draft = folder / f".{unique}.{os.getpid()}"
        frame.write_ipc(draft, compression="lz4")
        draft.replace(folder / f"{first}-{last}-{unique}.arrow")

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> pl.DataFrame:
        """The rows of a kind with `since < known_at <= until`, in the order of becoming known."""
        parts = [pl.read_ipc(file) for file in self._segments(kind, since, until)]
        if not parts:
            return pl.DataFrame()
        rows = pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0]
        if since is not None:
            rows = rows.filter(pl.col("known_at") > since)
        if until is not None:
            rows = rows.filter(pl.col("known_at") <= until)
        return rows.sort("known_at", maintain_order=True)

    def kinds(self) -> list[str]:
        """The kinds that have rows."""
        return sorted(
            str(folder.relative_to(self._folder)) for folder in self._folder.rglob("*") if any(folder.glob("*.arrow"))
        )

    def compact(self, kind: str, keep: int = 32) -> None:
        """Join the segments of a kind into one where there are more than `keep`: readers see the same rows."""
        segments = list(self._segments(kind, None, None))
        if len(segments) <= keep:
            return
        self.append(kind, pl.concat([pl.read_ipc(s) for s in segments], how="diagonal_relaxed"))
        for segment in segments:
            segment.unlink(missing_ok=True)

    def _segments(self, kind: str, since: datetime | None, until: datetime | None) -> Iterator[Path]:
        low = _micros(since) if since else -1
        high = _micros(until) if until else 1 << 62
        for file in sorted((self._folder / kind).glob("*.arrow")):
            span = _NAME.search(file.name)
            if span and int(span[2]) > low and int(span[1]) <= high:
                yield file


def _micros(moment: object) -> int:
    assert isinstance(moment, datetime)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
