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
from tidemill.errors import Conflict, Corrupt, StoreMissing, TidemillError
from tidemill.faults import maybe_crash
from tidemill.ledger.database import Database
from tidemill.ledger.ledger import Ledger
from tidemill.locks import lock_file
from tidemill.upkeep.backup import FORMAT, MANIFEST, BackupManifest, Hashing, format_line
from tidemill.upkeep.lock import upkeep
from tidemill.workspace.workspace import Workspace

_FOLDERS = ("blobs", "environments")
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
        if the workspace is not empty, or a daemon or another upkeep command is running on it.
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
        _require_no_daemon(workspace.root)
        workspace.forget_lost()
        _require_empty_stores(workspace)
        for incomplete in workspace.root.glob(f"{_DRAFT}*"):
            shutil.rmtree(incomplete)
        draft = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_DRAFT, dir=workspace.root)))
        draft_workspace = Workspace(draft / "workspace", workspace.environment, workspace.back_ends, {})
        manifest = _unpack(source, draft, draft_workspace.blobs)
        maybe_crash("restore has verified")
        names = (f"{_ASIDE}{now:%Y%m%dT%H%M%S}{number or ''}" for number in itertools.count())
        aside = next(path for name in names if not (path := workspace.root / name).exists())
        _copy_blobs(workspace, draft_workspace)
        _fill_stores(workspace, draft_workspace, draft)
        new = workspace.database.draft(draft, aside.name.replace("before", "new"))
        try:
            _fill_ledger(Ledger(new), draft, manifest)
            maybe_crash("restore has the ledger")
            _swap(workspace, new, draft_workspace, aside, keep=not empty)
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
        if workspace.is_inside("blobs") and next(iter(workspace.blobs.list_blobs()), None) is not None:
            return False
        for opened in workspace.environments():
            opened.require_environment()
    except (Corrupt, StoreMissing):
        return False
    files = (file for file in (workspace.root / "environments").rglob("*") if file.is_file())
    return not any(file.stat().st_size for file in files if file.suffix != ".lock")


def _require_no_daemon(root: Path) -> None:
    """Raise `Conflict` if a daemon is running on an environment of the workspace."""
    for lease in root.glob("environments/*/daemon.lock"):
        with lock_file(lease, wait=False) as free:
            if not free:
                raise Conflict(
                    f"a daemon is running on the environment {lease.parent.name}", "stop it first: Ctrl-C or SIGTERM"
                )


def _require_empty_stores(workspace: Workspace) -> None:
    """Raise `Conflict` if a store outside the workspace's folder, which cannot be moved aside, is not empty."""
    for opened in workspace.environments():
        for name, store in opened.archived.items():
            if opened.is_inside(name):
                continue
            if next(store.export(), None) is not None:
                raise Conflict(
                    f"the {name} store at {opened.url(name)} is not empty",
                    f"empty it, or set TIDEMILL_{name.upper()} to another URL",
                )


def _unpack(source: IO[bytes], draft: Path, blobs: Blobs) -> BackupManifest:
    """Unpack all files into a folder, and verify them."""
    with _explain_source_errors():
        return _unpack_files(source, draft, blobs)


def _unpack_files(source: IO[bytes], draft: Path, blobs: Blobs) -> BackupManifest:
    index, files, size, manifest = hashlib.sha256(), 0, 0, b""
    for member, content in read_members(source):
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
            file = _resolve_path(draft, member.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as sink:
                shutil.copyfileobj(hashing, sink)
        index.update(format_line(member.name, member.size, hashing.digest))
        files, size = files + 1, size + member.size
    listed = _parse_manifest(manifest)
    if (listed.files, listed.bytes, listed.index) != (files, size, index.hexdigest()):
        raise Corrupt("the backup was altered: its files differ from its list", _CURE)
    return listed


def read_members(source: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Iterate over the files of a backup, each open until the next."""
    with tarfile.open(fileobj=source, mode="r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise Corrupt(f"{member.name!r} in the backup is not a plain file", _CURE)
            yield member, content


@contextmanager
def _explain_source_errors() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise Corrupt(f"the file is not a backup, or is incomplete: {error}", _CURE) from None
    except OSError as error:
        raise TidemillError(
            f"the backup could not be unpacked: {error.strerror or error}",
            "check the file, free space and permissions; nothing was changed",
        ) from None


def _resolve_path(draft: Path, name: str) -> Path:
    """Return the path of a member; raise `Corrupt` for a path outside the folder."""
    parts = PurePosixPath(name).parts
    is_expected = parts[:1] == ("ledger",) or (parts[:1] == ("environments",) and len(parts) > 3)
    if not is_expected or ".." in parts or "\\" in name:
        raise Corrupt(f"the backup contains an unexpected file: {name!r}", _CURE)
    return draft.joinpath(*parts)


def _parse_manifest(content: bytes) -> BackupManifest:
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
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the backup's manifest cannot be read: {error}", _CURE) from None


def _copy_blobs(workspace: Workspace, draft_workspace: Workspace) -> None:
    """Copy the blobs to a store outside the workspace; blobs are immutable, so no existing blob changes."""
    if workspace.is_inside("blobs"):
        return
    for stored in draft_workspace.blobs.list_blobs():
        with draft_workspace.blobs.open(stored.digest) as source, workspace.blobs.draft() as blob:
            shutil.copyfileobj(source, blob)
            blob.keep(durable=True)
    shutil.rmtree(draft_workspace.root / "blobs")


def _fill_stores(workspace: Workspace, draft_workspace: Workspace, draft: Path) -> None:
    """Fill the stores of each environment: stores inside the workspace in the draft, the others directly."""
    for folder in sorted((draft / "environments").glob("*")):
        inside, outside = draft_workspace.for_environment(folder.name), workspace.for_environment(folder.name)
        for unpacked in sorted(folder.iterdir()):
            target = inside if outside.is_inside(unpacked.name) else outside
            if unpacked.name not in target.archived:
                raise Corrupt(f"the backup contains an unexpected store: {unpacked.name!r}", _CURE)
            target.archived[unpacked.name].load(_open_files(unpacked))
    shutil.rmtree(draft / "environments", ignore_errors=True)


def _open_files(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Iterate over the open files in a folder; each is deleted after it was read, to save disk space."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
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
                raise Corrupt(f"the backup has {count} {name}, but its manifest lists {manifest.records[name]}", _CURE)
    ledger.close()


def _interrupt(record: Struct) -> Struct:
    if isinstance(record, Run) and record.state == "running":
        error = "the run was running at the time of the backup"
        return replace(record, state="interrupted", error=error, interruption="restore")
    return record


@contextmanager
def _explain_workspace_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TidemillError(
            f"the workspace {root} could not be replaced: {error.strerror or error}",
            "check its permissions, then restore again with --force; nothing was deleted",
        ) from None


def _swap(workspace: Workspace, new: Database, draft_workspace: Workspace, aside: Path, *, keep: bool) -> None:
    """Move the former content aside, and the new content to its paths; with `keep`, nothing is deleted."""
    root = workspace.root
    if not workspace.has_lost_ledger:
        with suppress(Corrupt, StoreMissing):
            workspace.ledger.close()
    with _explain_workspace_errors(root):
        aside.mkdir()
        workspace.database.adopt(new, aside, keep=keep)
        for name in _FOLDERS:
            with suppress(FileNotFoundError):
                (root / name).rename(aside / name)
        workspace.forget_lost()
        maybe_crash("restore has moved aside")
        for name in _FOLDERS:
            with suppress(FileNotFoundError):
                (draft_workspace.root / name).rename(root / name)
