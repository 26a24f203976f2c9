"""Delta tables as sources: a version that appended rows is one batch; a version that changed rows is all rows again."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from tidemill.core.batch import Batch
from tidemill.data.kinds.kind import hash_parts
from tidemill.errors import DataError

if TYPE_CHECKING:
    from deltalake import DeltaTable

_APPENDING = ("WRITE", "CREATE TABLE AS SELECT", "STREAMING UPDATE", "COPY INTO", "CONVERT", "CLONE", "MERGE")
_CHANGING = (
    *("DELETE", "UPDATE", "RESTORE", "TRUNCATE"),
    *("REPLACE TABLE", "REPLACE TABLE AS SELECT", "CREATE OR REPLACE TABLE", "CREATE OR REPLACE TABLE AS SELECT"),
)


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

    def batches(self, until: datetime) -> list[Batch]:
        commits = sorted(self._open().history(), key=lambda commit: int(commit["version"]))
        whole = self._whole(commits)
        batches: list[Batch] = []
        since = max((version for version in whole if version < int(commits[0]["version"])), default=0)
        for commit in commits:
            version, arrived = int(commit["version"]), datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
            if arrived > until or version < since:
                continue
            if version in whole:
                batches.clear()
                since = version
            elif commit.get("operation") not in _APPENDING:
                continue
            part = f"{since}+{version - since}" if since else str(version)
            name = f"{self._name}/v{part}@{hash_parts(version, commit['timestamp'])}"
            batches.append(Batch(id=name, source=self._name, known_at=arrived, path=f"{self._batch_path}#{part}"))
        return batches

    def _whole(self, commits: list[dict[str, Any]]) -> set[int]:
        """Return the versions that are read as a whole table."""
        pattern = re.compile(rf"{re.escape(self._name)}/v(\d+)(?:\+(\d+))?@")
        accepted = [(int(match[1]), match[2]) for match in map(pattern.match, self._accepted()) if match]
        seen = max((begin + int(offset or 0) for begin, offset in accepted), default=-1)
        whole = {begin for begin, offset in accepted if offset is not None}
        whole |= {int(commit["version"]) for commit in commits if _changed(commit)}
        if seen < int(commits[0]["version"]) > 0:  # earlier entries of the log were cleaned up
            whole.add(self._first_readable(commits))
        vacuums = [index for index, commit in enumerate(commits) if str(commit.get("operation")).startswith("VACUUM")]
        before = commits[: vacuums[-1]] if vacuums else []
        compacted = [int(commit["version"]) for commit in before if commit.get("operation") == "OPTIMIZE"]
        if compacted and seen < compacted[-1]:
            whole.add(compacted[-1])
        return whole

    def _first_readable(self, commits: list[dict[str, Any]]) -> int:
        for version in (int(commit["version"]) for commit in commits[:-1]):
            with suppress(DataError):
                self._open(version)
                return version
        return int(commits[-1]["version"])

    def rows(self, batch: Batch) -> pl.DataFrame:
        part = batch.path.rpartition("#")[2]
        version, whole = sum(map(int, part.split("+"))), part.endswith("+0")
        try:
            table = self._open(version)
            before = set() if whole or not version else set(self._open(version - 1).file_uris())
            new = sorted(set(table.file_uris()) - before)
            columns = list(pl.scan_delta(table).collect_schema())
            read = pl.read_parquet(new, hive_partitioning=True, missing_columns="insert") if new else None
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(version, str(error).partition("\n")[0]) from None
        return read.select(name for name in columns if name in read.columns) if read is not None else pl.DataFrame()

    def _open(self, version: int | None = None) -> "DeltaTable":
        from deltalake.exceptions import DeltaError

        from tidemill.delta import LocalTable

        try:
            return LocalTable(self._location, version=version)
        except (DeltaError, OSError) as error:
            message: Any = str(error).partition("\n")[0]
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


def _changed(commit: dict[str, Any]) -> bool:
    """Return whether a commit changed or removed earlier rows, by its operation and its metrics."""
    operation, how = commit.get("operation"), commit.get("operationParameters") or {}
    if operation == "MERGE":  # many only insert
        metrics = {name.replace("_", "").lower(): int(count) for name, count in _metrics(commit)}
        return [metrics.get(f"numtargetrows{change}") for change in ("updated", "deleted", "copied")] != [0, 0, 0]
    overwrote = how.get("mode") == "Overwrite" or how.get("outputMode") == "Complete"
    return operation in _CHANGING or (operation in _APPENDING and overwrote)


def _metrics(commit: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the counts in a commit; Spark writes numbers as text."""
    for name, count in (commit.get("operationMetrics") or {}).items():
        if str(count).isdigit():
            yield name, count
