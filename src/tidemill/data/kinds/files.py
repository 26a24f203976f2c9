"""Files in a folder or an object store as sources: each file that matches the path is one batch."""

import glob
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import polars as pl

from tidemill.core.batch import Batch
from tidemill.core.source import Source
from tidemill.credentials import hide_url
from tidemill.data.kinds.kind import hash_parts
from tidemill.data.kinds.partitions import add_partitions
from tidemill.data.reading.bounds import Bounds
from tidemill.data.reading.parts import FORMATS as PART_FORMATS
from tidemill.data.reading.parts import survey_parts
from tidemill.data.tables import explain_panic, find_format, parse_table, read_table
from tidemill.errors import DataError, Unreadable, UnreadableNow

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PATTERN = re.compile(r"[*?\[]")


class LocalFiles:
    """Files on this machine: each file that matches the path is one batch; it arrived when it was written."""

    def __init__(self, name: str, source: Source, folder: Path) -> None:
        self._name = name
        self._source = source
        self._folder = folder
        self._pattern = str(folder / source.path)
        self._within = f"{_fixed(self._pattern)}/"

    def batches(self, until: datetime) -> list[Batch]:
        files = glob.glob(self._pattern, recursive=True)  # noqa: PTH207 - pathlib globs no absolute
        if not files:
            raise _no_file(self._name, self._pattern)
        listed = [(file, status) for file in files if (status := _stat(file)) is not None]  # others were just removed
        batches = [self._describe(file, status) for file, status in listed]
        return [batch for batch in batches if batch.known_at <= until]

    def rows(self, batch: Batch) -> pl.DataFrame:
        file, source = self._folder / batch.path, self._source
        bounds = find_bounds(self._name, source)
        with self._explained(batch, file, bounds):
            rows = read_table(file, source.format, dialect=source.dialect, empty=True, types=batch.types, bounds=bounds)
        self._require_unchanged(batch, file)
        return self._add_partitions(rows, batch)

    def _add_partitions(self, rows: pl.DataFrame, batch: Batch) -> pl.DataFrame:
        within = str(self._folder / batch.path).removeprefix(self._within)
        return add_partitions(rows, within, self._source.dialect, batch.types or {})

    def open_parts(self, batch: Batch) -> Callable[[], Iterator[pl.DataFrame]] | None:
        """Return a function that iterates over the parts of a file; None if its format cannot be read in parts."""
        file, source = self._folder / batch.path, self._source
        bounds, form = find_bounds(self._name, source), find_format(str(file), source.format)
        if form not in PART_FORMATS:
            return None
        with self._explained(batch, file, bounds):
            reader = survey_parts(file, form, source.dialect, batch.types or {}, bounds)

        def iterate() -> Iterator[pl.DataFrame]:
            with self._explained(batch, file, bounds):
                for rows in reader.iterate():
                    yield self._add_partitions(rows, batch)
            self._require_unchanged(batch, file)

        return iterate

    @contextmanager
    def _explained(self, batch: Batch, file: Path, bounds: Bounds) -> Iterator[None]:
        """Raise what happens while a file is read as an `Unreadable`."""
        try:
            yield
        except Unreadable:
            self._require_unchanged(batch, file)
            raise
        except DataError as error:
            raise UnreadableNow(error.problem, error.cure) from error
        except MemoryError:
            raise bounds.explain_memory(
                str(file), bounds.memory_mb * 1_000_000, "is larger than this machine"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise UnreadableNow(f"{file} cannot be read: {error}", "correct the file or its permissions") from error
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise explain_panic(str(file), error) from None

    def _require_unchanged(self, batch: Batch, file: Path) -> None:
        """Raise `UnreadableNow` if the file is not the one that was listed: its rows may be incomplete."""
        version = batch.id.rpartition("@")[2].partition("+")[0]
        if version and self._batch(file).id.rpartition("@")[2] != version:
            raise UnreadableNow(
                f"{file} changed while it was read",
                "write a file under another name and rename it when it is complete; the next ingestion reads it again",
            )

    def _batch(self, file: Path) -> Batch:
        status = _stat(str(file))
        if status is None:
            raise UnreadableNow(f"{file} of source {self._name!r} was removed while it was read", "try again")
        return self._describe(str(file), status)

    def _describe(self, file: str, status: os.stat_result) -> Batch:
        name = file.removeprefix(self._within)
        version = hash_parts(name, status.st_size, status.st_mtime_ns, *self._source.dialect.identity)
        arrived = datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
        # A path within the project stays the same when the project moves.
        path = file.removeprefix(f"{self._folder}/")
        return Batch(id=f"{self._name}/{name}@{version}", source=self._name, known_at=arrived, path=path)


def _stat(file: str) -> os.stat_result | None:
    """Return the status of a file, or of a link to a missing one; None if it does not exist any more."""
    for follow in (True, False):
        with suppress(OSError):
            return os.stat(file, follow_symlinks=follow)  # noqa: PTH116 - faster than pathlib for many files
    return None


class RemoteObjects:
    """Objects behind a URL (s3://, gs://, az://, https://): each object that matches the path is one batch."""

    def __init__(self, name: str, source: Source) -> None:
        self._name = name
        self._source = source
        parts = urlsplit(source.path)
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._shown = hide_url(self._root)
        self._pattern = parts.path.lstrip("/")

    def batches(self, until: datetime) -> list[Batch]:
        pattern = re.compile(_to_regex(self._pattern))
        folder = _fixed(self._pattern)
        within = f"{folder}/" if folder else ""
        with _explained_errors(self._name, hide_url(self._source.path)):
            pages = self._store().list(folder or None)
            listed = [entry for page in pages for entry in page if pattern.fullmatch(entry["path"])]
        if not listed:
            raise _no_file(self._name, hide_url(self._source.path))
        dialect = self._source.dialect.identity
        return [
            Batch(
                id=f"{self._name}/{entry['path'].removeprefix(within)}@{hash_parts(*entry.values(), *dialect)}",
                source=self._name,
                known_at=entry["last_modified"],
                path=f"{self._shown}/{entry['path']}",
            )
            for entry in listed
            if entry["last_modified"] <= until
        ]

    def rows(self, batch: Batch) -> pl.DataFrame:
        bounds, store = find_bounds(self._name, self._source), self._store()
        key = batch.path.removeprefix(f"{self._shown}/")
        with _explained_errors(self._name, batch.path):
            size = store.head(key)["size"]
        if size > bounds.memory_mb * 1_000_000:
            raise bounds.explain_memory(batch.path, size, f"has {size:,} bytes")
        with _explained_errors(self._name, batch.path):
            content = bytes(store.get(key).bytes())
        dialect, types = self._source.dialect, batch.types or {}
        rows = parse_table(
            io.BytesIO(content),
            batch.path,
            self._source.format,
            dialect=dialect,
            empty=True,
            types=batch.types,
            bounds=bounds,
        )
        return add_partitions(rows, key.removeprefix(_fixed(self._pattern)), dialect, types)

    def _store(self) -> "ObjectStore":
        from obstore.store import from_url

        return from_url(self._root)


def find_bounds(name: str, source: Source) -> Bounds:
    """Return the bounds of one file of a source."""
    return Bounds(name, source.max_rows, source.max_memory_mb)


def _fixed(pattern: str) -> str:
    """Return the folder that contains every match of a pattern; empty for the root."""
    return _PATTERN.split(pattern)[0].rpartition("/")[0]


def _to_regex(pattern: str) -> str:
    """Return a glob as a regular expression: `*` matches within a folder, `**/` any number of folders."""
    parts = re.split(r"(\*\*/|\*|\?|\[[^\]]*\])", pattern)
    wildcards = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(wildcards.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)


def _no_file(name: str, pattern: str) -> DataError:
    return DataError(f"no file matches the path of source {name!r}: {pattern}", "check `path` in tidemill.toml")


@contextmanager
def _explained_errors(name: str, location: str) -> Iterator[None]:
    """Raise an error of an object store as a `DataError` of one line."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        message = str(error).strip().partition("\n")[0]
        cure = "check its URL, and the credentials in the environment"
        raise DataError(f"source {name!r} cannot be read from {location}: {message}", cure) from None
