"""Files as batches: of a folder or of an object store, one by one or all that fit a pattern."""

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
from tidemill.data.kinds.kind import hash_parts
from tidemill.data.tables import parse_table, read_table
from tidemill.errors import DataError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PATTERN = re.compile(r"[*?\[]")


class LocalFiles:
    """Files of this machine: each that fits the path is one batch, arrived when it was written."""

    def __init__(self, name: str, source: Source, folder: Path) -> None:
        self._name = name
        self._source = source
        self._folder = folder
        self._pattern = str(folder / source.path)
        self._within = Path(_fixed(self._pattern) or "/")

    def batches(self, until: datetime) -> list[Batch]:
        files = [Path(name) for name in glob.glob(self._pattern, recursive=True)]  # noqa: PTH207 - pathlib globs no absolute
        if not files:
            raise _nothing(self._name, self._pattern)
        found = [self._batch(file) for file in files]
        return [batch for batch in found if batch.known_at <= until]

    def rows(self, batch: Batch) -> pl.DataFrame:
        return read_table(self._folder / batch.path, self._source.format, empty=True, texts=batch.texts)

    def _batch(self, file: Path) -> Batch:
        try:
            status = file.stat() if file.exists() else file.lstat()
        except OSError as gone:
            raise DataError(f"{file} of source {self._name!r} cannot be read: {gone.strerror}", "try again") from None
        name = file.relative_to(self._within).as_posix()
        version = hash_parts(name, status.st_size, status.st_mtime_ns)
        arrived = datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
        # A file keeps its name when the project is moved.
        path = file.relative_to(self._folder) if file.is_relative_to(self._folder) else file
        return Batch(id=f"{self._name}/{name}@{version}", source=self._name, known_at=arrived, path=str(path))


class RemoteObjects:
    """Objects behind a URL (s3://, gs://, az://, https://): each that fits the path is one batch."""

    def __init__(self, name: str, source: Source) -> None:
        self._name = name
        self._source = source
        parts = urlsplit(source.path)
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._pattern = parts.path.lstrip("/")

    def batches(self, until: datetime) -> list[Batch]:
        fits = re.compile(_expression(self._pattern))
        folder = _fixed(self._pattern)
        within = f"{folder}/" if folder else ""
        with _told(self._name, self._source.path):
            listed = [one for page in self._store().list(folder or None) for one in page if fits.fullmatch(one["path"])]
        if not listed:
            raise _nothing(self._name, self._source.path)
        return [
            Batch(
                id=f"{self._name}/{one['path'].removeprefix(within)}@{hash_parts(*one.values())}",
                source=self._name,
                known_at=one["last_modified"],
                path=f"{self._root}/{one['path']}",
            )
            for one in listed
            if one["last_modified"] <= until
        ]

    def rows(self, batch: Batch) -> pl.DataFrame:
        with _told(self._name, batch.path):
            content = bytes(self._store().get(batch.path.removeprefix(f"{self._root}/")).bytes())
        return parse_table(io.BytesIO(content), batch.path, self._source.format, empty=True, texts=batch.texts)

    def _store(self) -> "ObjectStore":
        from obstore.store import from_url

        return from_url(self._root)


def _fixed(pattern: str) -> str:
    """The folder in which all that fits a pattern lies; empty for the root."""
    return _PATTERN.split(pattern)[0].rpartition("/")[0]


def _expression(pattern: str) -> str:
    """A glob as a regular expression: `*` stays in its folder, `**/` goes through any number of them."""
    parts = re.split(r"(\*\*/|\*|\?|\[[^\]]*\])", pattern)
    meant = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(meant.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)


def _nothing(name: str, pattern: str) -> DataError:
    return DataError(f"no file fits the path of source {name!r}: {pattern}", "check `path` in tidemill.toml")


@contextmanager
def _told(name: str, place: str) -> Iterator[None]:
    """Tell on one line what an object store refused."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError) as refused:
        said = str(refused).strip().partition("\n")[0]
        cure = "check its URL, and the credentials in the environment"
        raise DataError(f"source {name!r} cannot be read from {place}: {said}", cure) from None
