"""Backup: a workspace in one tar file, written while runs, the service and the daemon continue.

The ledger is first, from one snapshot. Then come the blobs that it refers to, and then the stores that grow (journal,
tables, routes, online store), so that every record of the ledger has its bytes. The manifest is last: a file without a
manifest is incomplete. The ledger has one JSON line for each record, so that any kind of database can load it.
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
from tidemill.core.damage import Checked
from tidemill.core.release import Release
from tidemill.core.run import Run, StepRun
from tidemill.durable import flush_folder
from tidemill.errors import Corrupt, NotFound, TidemillError
from tidemill.faults import maybe_crash
from tidemill.ledger.ledger import Ledger
from tidemill.presence import open_private
from tidemill.upkeep.gc import list_blobs_of_release, list_blobs_of_run
from tidemill.upkeep.lock import upkeep
from tidemill.workspace.workspace import Workspace

FORMAT = 1
MANIFEST = "manifest.json"


class BackupManifest(Struct, frozen=True, kw_only=True):
    """The content of a backup: the number of records by book, of blobs, of files, and of their bytes.

    `taken` is the time of the backup, `index` the digest of the list of its files.

    `missing` has the digests of blobs that the ledger refers to, and that were missing or altered. `damaged` has the
    other files that were damaged or missing, and that the backup lacks.
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
    damaged: tuple[str, ...] = ()


class BackupOrigin(Struct, frozen=True):
    """The origin of a backup: the version of tidemill, the project and the digest of its policy."""

    tidemill: str
    project: str
    policy: str


@contextmanager
def open_atomically(file: Path) -> Iterator[BinaryIO]:
    """Open a file to write; it replaces an existing file only when it is complete."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb", opener=open_private) as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        draft.replace(file)
        flush_folder(file.parent)
    except OSError as error:
        raise TidemillError(
            f"the backup could not be written to {file}: {error.strerror}",
            "check free space and permissions; the incomplete file was deleted",
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def back_up(workspace: Workspace, sink: IO[bytes], origin: BackupOrigin, now: datetime) -> BackupManifest:
    """Write a workspace with all its environments as a tar file into a sink, such as a file or a pipe.

    Raises
    ------
    Conflict
        if a garbage collection or an erasure is running.
    """
    with ExitStack() as stack:
        stack.enter_context(upkeep(workspace.root, workspace.database, shared=True))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".backup-", dir=workspace.root)))
        archive = _Archive(stack.enter_context(tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT)))
        digests: dict[str, None] = {}
        records = {}
        for name, file in _snapshot(workspace.ledger, scratch):
            records[name] = _count_and_collect(workspace, name, file, digests)
            archive.add(f"ledger/{name}.jsonl", file)
            maybe_crash("backup has a book")
        missing = [digest for digest in digests if not _add_blob(workspace, digest, archive)]
        blobs = archive.files - len(records)
        damaged: list[str] = []
        for opened in workspace.environments():
            for store, content in opened.archived.items():
                place = f"environments/{opened.environment}/{store}"
                try:
                    for name, source in content.export():
                        archive.stream(f"{place}/{name}", source, _size(source))
                except Corrupt as damage:
                    damaged.append(f"{place}: {damage.problem}")
                    continue
                if isinstance(content, Checked):
                    damaged += [f"{place}/{damage.name}" for damage in content.damages()]
        manifest = BackupManifest(
            format=FORMAT,
            tidemill=origin.tidemill,
            project=origin.project,
            policy=origin.policy,
            taken=now,
            records=records,
            blobs=blobs,
            files=archive.files,
            bytes=archive.bytes,
            index=archive.index.hexdigest(),
            missing=tuple(missing),
            damaged=tuple(damaged),
        )
        maybe_crash("backup has all but the manifest")
        archive.write(MANIFEST, msgspec.json.encode(manifest))
    return manifest


class _Archive:
    """A tar file, with a digest of the list of its members."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.files = 0
        self.bytes = 0
        self.index = hashlib.sha256()

    def add(self, name: str, file: Path) -> None:
        """Add a file; skip it if it was deleted."""
        with suppress(FileNotFoundError), file.open("rb") as source:
            self.stream(name, source, os.fstat(source.fileno()).st_size)

    def stream(self, name: str, source: IO[bytes], size: int, digest: str = "") -> None:
        """Add `size` bytes of a source; without a `digest` it is computed."""
        hashing = Hashing(source)
        header = tarfile.TarInfo(name)
        header.size = size
        self._tar.addfile(header, hashing)
        self.files += 1
        self.bytes += size
        self.index.update(format_line(name, size, digest or hashing.digest))

    def write(self, name: str, content: bytes) -> None:
        """Add bytes that are not in the list."""
        header = tarfile.TarInfo(name)
        header.size = len(content)
        self._tar.addfile(header, io.BytesIO(content))


class Hashing(io.RawIOBase):
    """A source that computes the digest of the bytes that are read."""

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


def format_line(name: str, size: int, digest: str) -> bytes:
    """Format a line of a backup's list."""
    return f"{name} {size} {digest}\n".encode()


def _snapshot(ledger: Ledger, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Iterate over the books of one snapshot, each as a file of JSON lines that is deleted before the next."""
    for name, lines in ledger.export():
        file = scratch / f"{name}.jsonl"
        with file.open("wb") as sink:
            sink.writelines(lines)
        yield name, file
        file.unlink()


def _count_and_collect(workspace: Workspace, name: str, file: Path, digests: dict[str, None]) -> int:
    """Return the number of records of a book, and collect the digests of the blobs that they refer to."""
    record_type = {"artifacts": Artifact, "runs": Run, "steps": StepRun, "releases": Release}.get(name)
    count = 0
    with file.open("rb") as lines:
        for line in lines:
            count += 1
            if record_type is not None:
                digests.update(dict.fromkeys(_list_blobs(workspace, msgspec.json.decode(line, type=record_type))))
    return count


def _list_blobs(workspace: Workspace, record: Artifact | Run | StepRun | Release) -> Iterator[str]:
    if isinstance(record, Artifact):
        if not record.transient and not record.collected:
            yield record.id
            with suppress(NotFound, Corrupt):
                for member in list_members(workspace.blobs, record):
                    yield from _list_blobs(workspace, member)
    elif isinstance(record, Run):
        # The digest of the code is not the digest of a blob.
        yield from (digest for digest in list_blobs_of_run(record) if workspace.blobs.has(digest))
    elif isinstance(record, Release):
        yield from list_blobs_of_release(record)
    elif record.log_blob:
        yield record.log_blob


def list_needed_blobs(workspace: Workspace) -> set[str]:
    """Return the digests of the blobs that the ledger refers to."""
    ledger = workspace.ledger
    needed: set[str] = set()
    for book in (ledger.artifacts, ledger.runs, ledger.steps, ledger.releases):
        for record in book.find():
            needed.update(_list_blobs(workspace, record))
    # The garbage collection deletes the environment of other runs without a trace in their records.
    for release in ledger.releases.find():
        for run in ledger.runs.find(id=release.run):
            needed.update(digest for digest in (run.packages, run.code.get("snapshot")) if digest)
    return needed


def _add_blob(workspace: Workspace, digest: str, archive: _Archive) -> bool:
    """Add a blob; return False if it is missing or altered."""
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
