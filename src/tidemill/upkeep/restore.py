"""Restore: replace a workspace with a backup; every digest is verified before anything is changed."""

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
from typing import IO, Any, BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tidemill.blobs.store import Blobs
from tidemill.core.run import Run
from tidemill.errors import Conflict, Corrupt, TidemillError
from tidemill.faults import maybe_crash
from tidemill.ledger.database import Database
from tidemill.ledger.ledger import Ledger
from tidemill.locks import lock_file
from tidemill.upkeep.backup import FORMAT, MANIFEST, BackupManifest, Hashing, format_line
from tidemill.upkeep.lock import upkeep
from tidemill.workspace.workspace import Workspace

_OURS = ("blobs", "environments")
_ASIDE = "before-restore-"
_DRAFT = ".restoring-"
_CURE = "use another backup; nothing was changed"


class Restored(Struct, frozen=True):
    """The result of a restore; `aside` is the folder of the former content, empty if there was none."""

    manifest: BackupManifest
    aside: str


def restore(workspace: Workspace, source: IO[bytes], now: datetime, *, force: bool = False) -> Restored:
    """Replace a workspace with a backup; with `force`, the former content is moved aside.

    Runs that were running at the time of the backup become interrupted; they can be resumed.

    Raises
    ------
    Conflict
        if the workspace is not empty, or a daemon or an upkeep is running on it.
    Corrupt
        if the file is incomplete, altered or not a backup; nothing is changed then.
    """
    with ExitStack() as stack:
        stack.enter_context(upkeep(workspace.root, workspace.database))
        empty = _is_empty(workspace)
        if not (empty or force):
            raise Conflict(
                f"the workspace {workspace.root} is not empty",
                "restore into another (TIDEMILL_WORKSPACE=FOLDER), or move the content aside: --force",
            )
        _refuse_daemons(workspace.root)
        _refuse_full_stores(workspace)
        for left in workspace.root.glob(f"{_DRAFT}*"):
            shutil.rmtree(left)
        draft = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_DRAFT, dir=workspace.root)))
        made = Workspace(draft / "workspace", workspace.environment, workspace.back_ends, {})
        manifest = _unpack(source, draft, made.blobs)
        maybe_crash("restore has verified")
        names = (f"{_ASIDE}{now:%Y%m%dT%H%M%S}{turn or ''}" for turn in itertools.count())
        aside = next(place for name in names if not (place := workspace.root / name).exists())
        _move_blobs(workspace, made)
        _fill_stores(workspace, made, draft)
        new = workspace.database.draft(draft, aside.name.replace("before", "made"))
        try:
            _fill_ledger(Ledger(new), draft, manifest)
            maybe_crash("restore has the ledger")
            _swap(workspace, new, made, aside, keep=not empty)
        finally:
            workspace.database.discard(new)
        if empty:
            shutil.rmtree(aside, ignore_errors=True)
    return Restored(manifest, "" if empty else str(aside))


def _is_empty(workspace: Workspace) -> bool:
    """Return whether the workspace has no records, blobs or rows; opening it creates empty files."""
    if workspace.has_lost_ledger:
        return False
    try:
        if any(book.find(limit=1) for book in workspace.ledger.books.values()):
            return False
    except Corrupt:
        return False
    if workspace.is_inside("blobs") and next(iter(workspace.blobs.list_blobs()), None) is not None:
        return False
    files = (file for file in (workspace.root / "environments").rglob("*") if file.is_file())
    return not any(file.stat().st_size for file in files if file.suffix != ".lock")


def _refuse_daemons(root: Path) -> None:
    for lease in root.glob("environments/*/daemon.lock"):
        with lock_file(lease, wait=False) as free:
            if not free:
                raise Conflict(f"a daemon is running on {lease.parent.name}", "stop it first: Ctrl-C or SIGTERM")


def _refuse_full_stores(workspace: Workspace) -> None:
    """Raise `Conflict` if a store outside the workspace's folder, which cannot be moved aside, is not empty."""
    for place in workspace.environments():
        for name, store in place.archived.items():
            if place.is_inside(name):
                continue
            if next(store.export(), None) is not None:
                raise Conflict(
                    f"the {name} store at {place.url(name)} is not empty",
                    f"empty it, or set TIDEMILL_{name.upper()} to another URL",
                )


def _unpack(source: IO[bytes], draft: Path, blobs: Blobs) -> BackupManifest:
    """Unpack all files into a folder, and verify them."""
    with _explained_source():
        return _unpacked(source, draft, blobs)


def _unpacked(source: IO[bytes], draft: Path, blobs: Blobs) -> BackupManifest:
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
        index.update(format_line(member.name, member.size, hashing.digest))
        files, size = files + 1, size + member.size
    listed = _manifest(manifest)
    if (listed.files, listed.bytes, listed.index) != (files, size, index.hexdigest()):
        raise Corrupt("the backup was altered: its files differ from its list", _CURE)
    return listed


def _members(source: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    with tarfile.open(fileobj=source, mode="r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise Corrupt(f"{member.name!r} in the backup is not a plain file", _CURE)
            yield member, content


@contextmanager
def _explained_source() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as cut:
        raise Corrupt(f"the file is not a backup, or is incomplete: {cut}", _CURE) from None
    except OSError as refused:
        raise TidemillError(
            f"the backup could not be unpacked: {refused.strerror or refused}",
            "check the file, free space and permissions; nothing was changed",
        ) from None


def _place(draft: Path, name: str) -> Path:
    """Return the path of a member; raise `Corrupt` for a path outside the folder."""
    parts = PurePosixPath(name).parts
    known = parts[:1] == ("ledger",) or (parts[:1] == ("environments",) and len(parts) > 3)
    if not known or ".." in parts or "\\" in name:
        raise Corrupt(f"the backup contains an unexpected file: {name!r}", _CURE)
    return draft.joinpath(*parts)


def _manifest(content: bytes) -> BackupManifest:
    if not content:
        raise Corrupt("the backup has no manifest: it is incomplete", _CURE)
    try:
        version = msgspec.json.decode(content, type=dict[str, Any]).get("format", 0)
        if version > FORMAT:
            raise TidemillError(
                f"the backup is from a newer version of tidemill (format {version})",
                "upgrade tidemill: `pip install --upgrade tidemill`; nothing was changed",
            )
        return msgspec.json.decode(content, type=BackupManifest)
    except msgspec.MsgspecError as wrong:
        raise Corrupt(f"the backup's manifest cannot be read: {wrong}", _CURE) from None


def _move_blobs(workspace: Workspace, made: Workspace) -> None:
    """Copy the blobs to a store outside the workspace; blobs are immutable, so no existing blob changes."""
    if workspace.is_inside("blobs"):
        return
    for one in made.blobs.list_blobs():
        with made.blobs.open(one.digest) as source, workspace.blobs.draft() as blob:
            shutil.copyfileobj(source, blob)
            blob.keep(durable=True)
    shutil.rmtree(made.root / "blobs")


def _fill_stores(workspace: Workspace, made: Workspace, draft: Path) -> None:
    """Fill the stores of each environment: stores inside the workspace in the draft, the others directly."""
    for folder in sorted((draft / "environments").glob("*")):
        inside, outside = made.for_environment(folder.name), workspace.for_environment(folder.name)
        for unpacked in sorted(folder.iterdir()):
            place = inside if outside.is_inside(unpacked.name) else outside
            if unpacked.name not in place.archived:
                raise Corrupt(f"the backup contains an unexpected store: {unpacked.name!r}", _CURE)
            place.archived[unpacked.name].load(_opened(unpacked))
    shutil.rmtree(draft / "environments", ignore_errors=True)


def _opened(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Iterate over the open files in a folder; each is deleted after it was read, to save disk space."""
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        with file.open("rb") as source:
            yield file.relative_to(folder).as_posix(), source
        file.unlink()


def _fill_ledger(ledger: Ledger, draft: Path, manifest: BackupManifest) -> None:
    """Write every record into a new database."""
    with ledger.transaction(durable=True):
        for name in manifest.records:
            with (draft / "ledger" / f"{name}.jsonl").open("rb") as lines:
                count = ledger.load(name, lines, _interrupt)
            if count != manifest.records[name]:
                raise Corrupt(f"the backup has {count} {name}, its manifest {manifest.records[name]}", _CURE)
    ledger.close()


def _interrupt(record: Struct) -> Struct:
    if isinstance(record, Run) and record.state == "running":
        error = "the run was running at the time of the backup"
        return replace(record, state="interrupted", error=error, interruption="restore")
    return record


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as refused:
        raise TidemillError(
            f"the workspace {root} could not be replaced: {refused.strerror or refused}",
            "check its permissions, then restore again with --force; nothing was deleted",
        ) from None


def _swap(workspace: Workspace, new: Database, made: Workspace, aside: Path, *, keep: bool) -> None:
    """Move the former content aside, and the new content to its paths; `keep` deletes nothing."""
    root = workspace.root
    if not workspace.has_lost_ledger:
        with suppress(Corrupt):
            workspace.ledger.close()
    with _explained(root):
        aside.mkdir()
        workspace.database.adopt(new, aside, keep=keep)
        for name in _OURS:
            with suppress(FileNotFoundError):
                (root / name).rename(aside / name)
        maybe_crash("restore has moved aside")
        for name in _OURS:
            with suppress(FileNotFoundError):
                (made.root / name).rename(root / name)
