"""Backup: a workspace in one tar file, taken while runs, the service and the daemon go on.

The ledger comes first, from one snapshot; then the blobs that it names, which never change, and then what arrives
(journal, tables, routes, online store), so that nothing in the ledger lacks its bytes. The manifest comes last: a file
without one was cut short. The ledger is one JSON line a record, so that it can be restored into any database.
"""

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO

import msgspec
from msgspec import Struct

from tidemill.blobs.artifacts import list_members
from tidemill.core.artifact import Artifact
from tidemill.core.release import Release
from tidemill.core.run import Run, StepRun
from tidemill.errors import Corrupt, NotFound, TidemillError
from tidemill.faults import maybe_crash
from tidemill.ledger.ledger import Ledger
from tidemill.upkeep.gc import named_by_run
from tidemill.upkeep.lock import upkeep
from tidemill.workspace.workspace import Workspace

FORMAT = 1
MANIFEST = "manifest.json"


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup holds: `records` by book, `blobs`, `files` and their `bytes`; `index` is the digest of its list.

    `missing` names blobs that the ledger has a record of and that were not there, or were altered.
    """

    format: int
    tidemill: str
    project: str
    policy: str
    taken: datetime
    records: dict[str, int]
    blobs: int
    files: int
    bytes: int
    index: str
    missing: tuple[str, ...] = ()


class About(Struct, frozen=True):
    """What a manifest says of whence it came."""

    tidemill: str
    project: str
    policy: str


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """A file to write that is there when all of it is, and not before; one that was there stays till then."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        draft.replace(file)
    except OSError as refused:
        raise TidemillError(
            f"the backup could not be written to {file}: {refused.strerror}",
            "check free space and permissions; nothing half-written was kept",
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def back_up(workspace: Workspace, sink: IO[bytes], about: About, now: datetime) -> Manifest:
    """Write a workspace, all its environments, as a tar file into a sink, which need not be a file.

    Raises
    ------
    Conflict
        if a collection or an erasure is at work.
    """
    with ExitStack() as stack:
        stack.enter_context(upkeep(workspace.root, workspace.database, shared=True))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".backup-", dir=workspace.root)))
        archive = _Archive(stack.enter_context(tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT)))
        named: dict[str, None] = {}
        records = {}
        for name, file in _snapshot(workspace.ledger, scratch):
            records[name] = _noted(workspace, name, file, named)
            archive.add(f"ledger/{name}.jsonl", file)
            maybe_crash("backup has a book")
        missing = [digest for digest in named if not _blob(workspace, digest, archive)]
        blobs = archive.files - len(records)
        for place in workspace.environments():
            for store, content in place.archived.items():
                for name, source in content.export():
                    archive.stream(f"environments/{place.environment}/{store}/{name}", source, _size(source))
        manifest = Manifest(
            format=FORMAT,
            tidemill=about.tidemill,
            project=about.project,
            policy=about.policy,
            taken=now,
            records=records,
            blobs=blobs,
            files=archive.files,
            bytes=archive.bytes,
            index=archive.index.hexdigest(),
            missing=tuple(missing),
        )
        maybe_crash("backup has all but the manifest")
        archive.write(MANIFEST, msgspec.json.encode(manifest))
    return manifest


class _Archive:
    """A tar file, with a running digest of the list of what went into it."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.files = 0
        self.bytes = 0
        self.index = hashlib.sha256()

    def add(self, name: str, file: Path) -> None:
        """Add a file as it is now; one that was taken away meanwhile is left out."""
        with suppress(FileNotFoundError), file.open("rb") as source:
            self.stream(name, source, os.fstat(source.fileno()).st_size)

    def stream(self, name: str, source: IO[bytes], size: int, digest: str = "") -> None:
        """Add so many bytes of a source; without a `digest` it is computed on the way."""
        hashing = Hashing(source)
        header = tarfile.TarInfo(name)
        header.size = size
        self._tar.addfile(header, hashing)
        self.files += 1
        self.bytes += size
        self.index.update(line_of(name, size, digest or hashing.digest))

    def write(self, name: str, content: bytes) -> None:
        """Add bytes, outside the list."""
        header = tarfile.TarInfo(name)
        header.size = len(content)
        self._tar.addfile(header, io.BytesIO(content))


class Hashing(io.RawIOBase):
    """A source that knows the digest of what was read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        content = self._source.read(size)
        self._hash.update(content)
        return content

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def line_of(name: str, size: int, digest: str) -> bytes:
    """One line of a backup's list."""
    return f"{name} {size} {digest}\n".encode()


def _snapshot(ledger: Ledger, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Every book as of one moment, as a file of JSON lines that is deleted before the next."""
    for name, lines in ledger.export():
        file = scratch / f"{name}.jsonl"
        with file.open("wb") as sink:
            sink.writelines(lines)
        yield name, file
        file.unlink()


def _noted(workspace: Workspace, name: str, file: Path, named: dict[str, None]) -> int:
    """How many records a book has; the digests of blobs that they name are noted."""
    noun = {"artifacts": Artifact, "runs": Run, "steps": StepRun, "releases": Release}.get(name)
    count = 0
    with file.open("rb") as lines:
        for line in lines:
            count += 1
            if noun is not None:
                named.update(dict.fromkeys(_digests(workspace, msgspec.json.decode(line, type=noun))))
    return count


def _digests(workspace: Workspace, record: Artifact | Run | StepRun | Release) -> Iterator[str]:
    if isinstance(record, Artifact):
        if not record.transient and not record.collected:
            yield record.id
            with suppress(NotFound, Corrupt):
                for member in list_members(workspace.blobs, record):
                    yield from _digests(workspace, member)
    elif isinstance(record, Run):
        # The digest of the code itself names no blob.
        yield from (digest for digest in named_by_run(record) if workspace.blobs.has(digest))
    elif isinstance(record, Release):
        yield record.package
    elif record.log_blob:
        yield record.log_blob


def _blob(workspace: Workspace, digest: str, archive: _Archive) -> bool:
    try:
        source = workspace.blobs.open(digest)
    except (NotFound, Corrupt):
        return False
    with source:
        archive.stream(f"blobs/{digest}", source, _size(source), digest)
    return True


def _size(source: IO[bytes]) -> int:
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    return size
