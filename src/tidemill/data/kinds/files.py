"""Files in a folder or an object store as sources: each file that matches the path is one batch."""

import glob
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import polars as pl

from tidemill.core.batch import Batch
from tidemill.core.source import Source
from tidemill.credentials import hide_url
from tidemill.data.kinds.kind import hash_parts
from tidemill.data.tables import parse_table, read_table
from tidemill.errors import DataError

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
        self._within = Path(_fixed(self._pattern) or "/")

    def batches(self, until: datetime) -> list[Batch]:
        files = [Path(name) for name in glob.glob(self._pattern, recursive=True)]  # noqa: PTH207 - pathlib globs no absolute
        if not files:
            raise _no_file(self._name, self._pattern)
        batches = [self._batch(file) for file in files]
        return [batch for batch in batches if batch.known_at <= until]

    def rows(self, batch: Batch) -> pl.DataFrame:
        file, dialect = self._folder / batch.path, self._source.dialect
        return read_table(file, self._source.format, dialect=dialect, empty=True, types=batch.types)

    def _batch(self, file: Path) -> Batch:
        try:
            status = file.stat() if file.exists() else file.lstat()
        except OSError as error:
            raise DataError(f"{file} of source {self._name!r} cannot be read: {error.strerror}", "try again") from None
        name = file.relative_to(self._within).as_posix()
        version = hash_parts(name, status.st_size, status.st_mtime_ns, *self._source.dialect.identity)
        arrived = datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
        # A path within the project stays the same when the project moves.
        path = file.relative_to(self._folder) if file.is_relative_to(self._folder) else file
        return Batch(id=f"{self._name}/{name}@{version}", source=self._name, known_at=arrived, path=str(path))


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
        with _explained_errors(self._name, batch.path):
            content = bytes(self._store().get(batch.path.removeprefix(f"{self._shown}/")).bytes())
        file, dialect = io.BytesIO(content), self._source.dialect
        return parse_table(file, batch.path, self._source.format, dialect=dialect, empty=True, types=batch.types)

    def _store(self) -> "ObjectStore":
        from obstore.store import from_url

        return from_url(self._root)


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
