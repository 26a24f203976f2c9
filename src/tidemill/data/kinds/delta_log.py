"""The log of a Delta table: for each commit, whether it appended rows, changed rows, or did neither.

The log's own actions decide, as in the Delta protocol: names and metrics of operations differ between writers, and a
commit need not have them.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct, ValidationError, field, json

_COMMIT = re.compile(r"(?:.*/)?(\d{20})\.json")

Effect = Literal["append", "change", "compaction", "none"]


class Commit(Struct, frozen=True, kw_only=True):
    """One version of a Delta table; `timestamp` is in milliseconds, 0 if the log does not contain one."""

    version: int
    timestamp: int
    effect: Effect
    is_vacuum: bool

    @property
    def arrived(self) -> datetime:
        """The time of the commit; raise `ValueError` if it is none."""
        try:
            return datetime.fromtimestamp(self.timestamp / 1000, UTC)
        except (OSError, OverflowError, ValueError):
            raise ValueError(f"the time of commit {self.version} is {self.timestamp} ms, which is no date") from None


class _FileAction(Struct):
    data_change: bool = field(default=True, name="dataChange")
    modified: int = field(default=0, name="modificationTime")
    deleted: int = field(default=0, name="deletionTimestamp")


class _MetaData(Struct):
    schema: str = field(default="{}", name="schemaString")


class _CommitInfo(Struct):
    operation: str | None = None
    timestamp: int | None = None
    committed: int | None = field(default=None, name="inCommitTimestamp")


class _Action(Struct):
    add: _FileAction | None = None
    remove: _FileAction | None = None
    metadata: _MetaData | None = field(default=None, name="metaData")
    info: _CommitInfo | None = field(default=None, name="commitInfo")


class _LogFile(NamedTuple):
    """A file of the log; a table that was deleted and created again has other files of the same names."""

    name: str
    modified: str
    size: int


class DeltaLog:
    """The commits of a Delta table in a folder or an object store. Each file of the log is read once."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._actions: dict[_LogFile, list[_Action]] = {}

    def read_commits(self) -> list[Commit]:
        """Return the commits from the oldest one that is not deleted, by version.

        Raises
        ------
        OSError
            if the folder cannot be read.
        ValueError
            if a commit is not JSON of the protocol, or an object store has an error.
        """
        files = self._list_files()
        oldest = newest = max(files, default=-1)
        while oldest - 1 in files:
            oldest -= 1
        names: dict[str, str] = {}
        commits = []
        for version in range(oldest, newest + 1):
            file = files[version]
            if file not in self._actions:
                self._actions[file] = _parse_commit(self._read_file(file.name), version)
            actions = self._actions[file]
            renamed = False
            for action in actions:
                if action.metadata is not None:
                    changed = _map_names(action.metadata)
                    renamed |= any(names.get(physical, name) != name for physical, name in changed.items())
                    names = changed
            commits.append(_summarize(version, actions, renamed=renamed))
        return commits

    def _list_files(self) -> dict[int, _LogFile]:
        if "://" in self._location:
            store, prefix = self._open_store()
            entries = [entry for page in store.list(f"{prefix}_delta_log/") for entry in page]
            files = [_LogFile(entry["path"], str(entry["last_modified"]), entry["size"]) for entry in entries]
        else:
            paths = [(path, path.stat()) for path in (Path(self._location) / "_delta_log").glob("*.json")]
            files = [_LogFile(str(path), str(status.st_mtime_ns), status.st_size) for path, status in paths]
        return {int(match[1]): file for file in files if (match := _COMMIT.fullmatch(file.name))}

    def _read_file(self, name: str) -> bytes:
        if "://" in self._location:
            return bytes(self._open_store()[0].get(name).bytes())
        return Path(name).read_bytes()

    def _open_store(self) -> tuple[Any, str]:
        from obstore.store import from_url

        parts = urlsplit(self._location)
        folder = parts.path.strip("/")
        return from_url(f"{parts.scheme}://{parts.netloc}"), f"{folder}/" if folder else ""


def _parse_commit(content: bytes, version: int) -> list[_Action]:
    try:
        return json.Decoder(_Action).decode_lines(content)
    except ValidationError as error:
        raise ValueError(f"commit {version} is not of the Delta protocol: {error}") from None


def _map_names(metadata: _MetaData) -> dict[str, str]:
    """Return the name of each column by its physical name; empty without column mapping."""
    fields = json.decode(metadata.schema).get("fields", [])
    mapped = {entry["metadata"].get("delta.columnMapping.physicalName"): entry["name"] for entry in fields}
    return {physical: name for physical, name in mapped.items() if physical}


def _summarize(version: int, actions: list[_Action], *, renamed: bool) -> Commit:
    added = [action.add for action in actions if action.add is not None]
    removed = [action.remove for action in actions if action.remove is not None]
    info = next((action.info for action in actions if action.info is not None), _CommitInfo())
    effect: Effect = "none"
    if renamed or any(file.data_change for file in removed):
        effect = "change"
    elif any(file.data_change for file in added):
        effect = "append"
    elif added or removed:
        effect = "compaction"
    times = [file.modified for file in added] + [file.deleted for file in removed]
    return Commit(
        version=version,
        timestamp=info.committed or info.timestamp or max(times, default=0),
        effect=effect,
        is_vacuum=(info.operation or "").startswith("VACUUM"),
    )
