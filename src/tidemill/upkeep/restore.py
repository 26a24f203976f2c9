"""Restore: a backup becomes a workspace again; every digest is verified before anything is put in place."""

import hashlib
import itertools
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tidemill.blobs.store import DiskBlobs
from tidemill.core.run import Run
from tidemill.errors import Conflict, Corrupt, TidemillError
from tidemill.faults import reached
from tidemill.ledger.connections import connected, database_at
from tidemill.ledger.ledger import Ledger
from tidemill.ledger.migrations.m0003_facts import upgraded
from tidemill.locks import locked
from tidemill.upkeep.backup import FORMAT, MANIFEST, Hashing, Manifest, line_of
from tidemill.upkeep.lock import upkeep
from tidemill.workspace.workspace import Workspace

_OURS = ("ledger.db", "ledger.db-wal", "ledger.db-shm", "blobs", "environments")
_ASIDE = "before-restore-"
_DRAFT = ".restoring-"
_IN = "SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'"
_REFUSED = "cannot be restored into"
_CURE = "take another backup; nothing was changed"


class Restored(Struct, frozen=True):
    """What was restored; `aside` is where that went which was there before, empty where there was nothing."""

    manifest: Manifest
    aside: str


def restore(workspace: Workspace, source: IO[bytes], now: datetime, *, force: bool = False) -> Restored:
    """Make a workspace what a backup holds; with `force`, what was there is moved aside.

    Runs that were at work when the backup was taken become interrupted: they can be resumed.

    Raises
    ------
    Conflict
        if the workspace is not empty, or something is at work on it.
    Corrupt
        if the file is cut short, altered, or no backup: then nothing was changed.
    """
    with ExitStack() as stack:
        stack.enter_context(upkeep(workspace.root, workspace.ledger_url))
        empty = _is_empty(workspace)
        if not (empty or force):
            raise Conflict(
                f"the workspace {workspace.root} is not empty",
                "restore into another (TIDEMILL_WORKSPACE=FOLDER), or move what is there aside: --force",
            )
        _refuse_daemons(workspace.root)
        for left in workspace.root.glob(f"{_DRAFT}*"):
            shutil.rmtree(left)
        draft = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_DRAFT, dir=workspace.root)))
        manifest = _unpack(source, draft)
        reached("restore has verified")
        names = (f"{_ASIDE}{now:%Y%m%dT%H%M%S}{turn or ''}" for turn in itertools.count())
        aside = next(place for name in names if not (place := workspace.root / name).exists())
        _settle_blobs(workspace, draft)
        _settle_ledger(workspace, draft, manifest, aside.name.replace("-", "_").lower(), empty)
        reached("restore has the ledger")
        _swap(workspace.root, draft / "workspace", aside)
        if empty:
            shutil.rmtree(aside, ignore_errors=True)
    return Restored(manifest, "" if empty else str(aside))


def _is_empty(workspace: Workspace) -> bool:
    """Whether nothing was ever done here: opening a workspace already makes its files."""
    if workspace.lost_its_ledger:
        return False
    try:
        if any(book.find(limit=1) for book in workspace.ledger.books.values()):
            return False
    except Corrupt:
        return False
    blobs = workspace.root / "blobs"
    if blobs.is_dir() and next(iter(DiskBlobs(blobs).stored()), None) is not None:
        return False
    files = (file for file in (workspace.root / "environments").rglob("*") if file.is_file())
    return not any(file.stat().st_size for file in files if file.suffix != ".lock")


def _refuse_daemons(root: Path) -> None:
    for lease in root.glob("environments/*/daemon.lock"):
        with locked(lease, wait=False) as free:
            if not free:
                raise Conflict(f"a daemon is at work on {lease.parent.name}", "end it first: Ctrl-C or SIGTERM")


def _unpack(source: IO[bytes], draft: Path) -> Manifest:
    """Unpack everything into a folder, and verify it."""
    with _explained_source():
        return _unpacked(source, draft)


def _unpacked(source: IO[bytes], draft: Path) -> Manifest:
    blobs = DiskBlobs(draft / "workspace" / "blobs")
    index, files, size, manifest = hashlib.sha256(), 0, 0, b""
    for member, content in _members(source):
        if member.name == MANIFEST:
            manifest = content.read()
            break
        hashing = Hashing(content)
        if member.name.startswith("blobs/"):
            with blobs.draft() as blob:
                shutil.copyfileobj(hashing, blob)
                if blob.digest != member.name.removeprefix("blobs/"):
                    raise Corrupt(f"blob {member.name[6:18]} was altered in the backup", _CURE)
                blob.keep()
        else:
            file = _place(draft, member.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as sink:
                shutil.copyfileobj(hashing, sink)
        index.update(line_of(member.name, member.size, hashing.digest))
        files, size = files + 1, size + member.size
    told = _manifest(manifest)
    if (told.files, told.bytes, told.index) != (files, size, index.hexdigest()):
        raise Corrupt("the backup was altered: its files are not those of its list", _CURE)
    return told


def _members(source: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    with tarfile.open(fileobj=source, mode="r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise Corrupt(f"{member.name!r} in the backup is no plain file", _CURE)
            yield member, content


@contextmanager
def _explained_source() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as cut:
        raise Corrupt(f"the file is no backup, or was cut short: {cut}", _CURE) from None
    except OSError as refused:
        raise TidemillError(
            f"the backup could not be unpacked: {refused.strerror or refused}",
            "check the file, free space and permissions; nothing was changed",
        ) from None


def _place(draft: Path, name: str) -> Path:
    """Where a member goes; none leads out of the folder."""
    parts = PurePosixPath(name).parts
    known = parts[:1] == ("ledger",) or parts[:2] == ("workspace", "environments")
    if not known or ".." in parts or "\\" in name:
        raise Corrupt(f"the backup holds a file that no backup has: {name!r}", _CURE)
    return draft.joinpath(*parts)


def _manifest(content: bytes) -> Manifest:
    if not content:
        raise Corrupt("the backup has no manifest: it is incomplete", _CURE)
    try:
        version = msgspec.json.decode(content, type=dict[str, Any]).get("format", 0)
        if version > FORMAT:
            raise TidemillError(
                f"the backup was taken by a newer version of tidemill (format {version})",
                "upgrade it: `pip install --upgrade tidemill`; nothing was changed",
            )
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as wrong:
        raise Corrupt(f"the backup's manifest cannot be read: {wrong}", _CURE) from None


def _settle_blobs(workspace: Workspace, draft: Path) -> None:
    """Blobs that are kept elsewhere go there: they are immutable, so that nothing there is changed."""
    unpacked = draft / "workspace" / "blobs"
    if Path(workspace.blobs_url) == workspace.root / "blobs":
        return
    there = workspace.blobs
    here = DiskBlobs(unpacked)
    for one in here.stored():
        with here.open(one.digest) as source, there.draft() as blob:
            shutil.copyfileobj(source, blob)
            blob.keep(durable=True)
    shutil.rmtree(unpacked)


def _settle_ledger(workspace: Workspace, draft: Path, manifest: Manifest, aside: str, empty: bool) -> None:
    """Write every record into a new file or, on a server, into new tables that then take the place of the old."""
    url = workspace.ledger_url
    if not workspace.lost_its_ledger:
        with suppress(Corrupt):
            workspace.ledger.close()
    if url.startswith("sqlite"):
        _fill(f"sqlite:///{draft / 'workspace' / 'ledger.db'}", draft, manifest)
        return
    made = aside.replace("before", "made")
    _run(url, f"DROP SCHEMA IF EXISTS {made} CASCADE", f"CREATE SCHEMA {made}")
    try:
        _fill(f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{made}", draft, manifest)
        old = f"table_schema = current_schema() AND table_name IN ({_IN.format(schema=made)})"
        moves = _rows(url, f"SELECT table_name FROM information_schema.tables WHERE {old}")
        new = _rows(url, _IN.format(schema=made))
        here = _rows(url, "SELECT current_schema()")[0]
        _run(
            url,
            f"CREATE SCHEMA {aside}",
            *(f"ALTER TABLE {here}.{table} SET SCHEMA {aside}" for table in moves),
            *(f"ALTER TABLE {made}.{table} SET SCHEMA {here}" for table in new),
            *([f"DROP SCHEMA {aside} CASCADE"] if empty else []),
        )
    finally:
        _run(url, f"DROP SCHEMA IF EXISTS {made} CASCADE")


def _fill(url: str, draft: Path, manifest: Manifest) -> None:
    ledger = Ledger(url)
    with ledger.transaction(durable=True):
        for name in manifest.records:
            book, count = ledger.books[name], 0
            with (draft / "ledger" / f"{name}.jsonl").open("rb") as lines:
                for line in lines:
                    record = upgraded(name, msgspec.json.decode(line))  # an earlier version may have written it
                    book.add(_ended(msgspec.convert(record, book.noun)))
                    count += 1
            if count != manifest.records[name]:
                raise Corrupt(f"the backup has {count} {name}, its manifest says {manifest.records[name]}", _CURE)
    ledger.close()


def _rows(url: str, query: str) -> list[str]:
    """The first column of what a query on the server gives."""
    with connected(database_at(url), _REFUSED) as connection:
        return [str(row[0]) for row in connection.execute(query).fetchall()]


def _run(url: str, *statements: str) -> None:
    """Run statements on the server, in one transaction."""
    with connected(database_at(url), _REFUSED) as connection:
        connection.execute("; ".join(["BEGIN", *statements, "COMMIT"]))


def _ended(record: Struct) -> Struct:
    if isinstance(record, Run) and record.state == "running":
        error = "the run was at work when the backup was taken"
        return replace(record, state="interrupted", error=error, interruption="restore")
    return record


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as refused:
        raise TidemillError(
            f"the workspace {root} could not be put in place: {refused.strerror or refused}",
            "check its permissions, then restore again with --force; nothing was deleted",
        ) from None


def _swap(root: Path, made: Path, aside: Path) -> None:
    """Move what is there aside, and what was made into its place; nothing is deleted."""
    with _explained(root):
        aside.mkdir()
        for name in _OURS:
            with suppress(FileNotFoundError):
                (root / name).rename(aside / name)
        reached("restore has moved aside")
        for new in made.iterdir():
            new.rename(root / new.name)
