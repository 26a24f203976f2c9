"""Delta tables as sources: a version that appended rows is one batch; a version that changed rows is all rows again."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
from msgspec import MsgspecError

from tidemill.core.batch import Batch
from tidemill.data.kinds.delta_log import Commit, DeltaLog
from tidemill.data.kinds.kind import hash_parts
from tidemill.errors import DataError

if TYPE_CHECKING:
    from tidemill.delta import LocalTable


class DeltaSource:
    """A Delta table in a folder or an object store.

    A version that changed or removed rows is a batch of the whole table, and earlier versions are no longer batches.
    Two more versions are read as a whole: the first readable version, where the log of earlier versions was cleaned up
    before their batches were accepted; and a compaction after which the earlier files were vacuumed. The path of such a
    batch, and of those after it, contains the version since which batches are current.

    `accepted` returns the ids of the accepted batches. `batch_path` replaces the location in the paths of batches, so
    that they stay the same when the project moves.
    """

    def __init__(
        self, name: str, location: str, accepted: Callable[[], Iterable[str]] = tuple, batch_path: str = ""
    ) -> None:
        self._name = name
        self._location = location
        self._batch_path = batch_path or location
        self._accepted = accepted
        self._log = DeltaLog(location)

    def batches(self, until: datetime) -> list[Batch]:
        commits = self._read_commits()
        whole = self._find_whole_versions(commits)
        batches: list[Batch] = []
        since = max((version for version in whole if version < commits[0].version), default=0)
        for commit in commits:
            version, arrived = commit.version, commit.arrived
            if arrived > until or version < since:
                continue
            if version in whole:
                batches.clear()
                since = version
            elif commit.effect != "append":
                continue
            part = f"{since}+{version - since}" if since else str(version)
            name = f"{self._name}/v{part}@{hash_parts(version, commit.timestamp)}"
            batches.append(Batch(id=name, source=self._name, known_at=arrived, path=f"{self._batch_path}#{part}"))
        return batches

    def _read_commits(self) -> list[Commit]:
        from obstore.exceptions import BaseError

        self._open()
        try:
            commits = self._log.read_commits()
            for commit in commits:
                commit.arrived  # noqa: B018 - it raises for a time that is none
            return commits
        except (BaseError, MsgspecError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"the log of the Delta table {self._location} of source {self._name!r} cannot be read: "
                f"{_first_line(error)}",
                "check the files in its folder _delta_log, and your access to them",
            ) from None

    def _find_whole_versions(self, commits: list[Commit]) -> set[int]:
        """Return the versions that are read as a whole table."""
        pattern = re.compile(rf"{re.escape(self._name)}/v(\d+)(?:\+(\d+))?@")
        accepted = [(int(match[1]), match[2]) for match in map(pattern.match, self._accepted()) if match]
        seen = max((begin + int(offset or 0) for begin, offset in accepted), default=-1)
        whole = {begin for begin, offset in accepted if offset is not None}
        whole |= {commit.version for commit in commits if commit.effect == "change"}
        if seen < commits[0].version > 0:  # earlier entries of the log were cleaned up
            whole.add(self._find_first_readable(commits))
        vacuums = [index for index, commit in enumerate(commits) if commit.is_vacuum]
        before = commits[: vacuums[-1]] if vacuums else []
        compacted = [commit.version for commit in before if commit.effect == "compaction"]
        if compacted and seen < compacted[-1]:
            whole.add(compacted[-1])
        return whole

    def _find_first_readable(self, commits: list[Commit]) -> int:
        for commit in commits[:-1]:
            with suppress(DataError):
                self._open(commit.version)
                return commit.version
        return commits[-1].version

    def rows(self, batch: Batch) -> pl.DataFrame:
        from deltalake.exceptions import DeltaError

        from tidemill.data.kinds.delta_files import read_files, require_readable

        part = batch.path.rpartition("#")[2]
        version, whole = sum(map(int, part.split("+"))), part.endswith("+0")
        try:
            table = self._open(version)
            require_readable(table, self._name)
            earlier = set() if whole or not version else set(self._open(version - 1).file_uris())
            return read_files(table, earlier)
        except (DeltaError, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
            raise self._unreadable(version, _first_line(error)) from None

    def _open(self, version: int | None = None) -> "LocalTable":
        from deltalake.exceptions import DeltaError

        from tidemill.delta import LocalTable

        try:
            return LocalTable(self._location, version=version)
        except (DeltaError, OSError) as error:
            message = _first_line(error)
            if "nsupported" in message or "not supported" in message or "atalog" in message:
                raise DataError(
                    f"the Delta table {self._location} of source {self._name!r} cannot be read: {message}",
                    "remove the feature in the program that writes the table, or copy its rows into a table without it",
                ) from None
            if version is not None:
                raise self._unreadable(version, message) from None
            raise DataError(
                f"source {self._name!r} has no Delta table at {self._location}: {message}",
                "check `path` in tidemill.toml",
            ) from None

    def _unreadable(self, version: int, message: str) -> DataError:
        return DataError(
            f"version {version} of {self._location} of source {self._name!r} cannot be read any more: {message}",
            "keep the files of a Delta table longer than the time between two ingestions; VACUUM deletes them",
        )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
