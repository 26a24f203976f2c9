"""A Delta table as a source: each version that appended rows is one batch; one that changed rows brings them all."""

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

    A version that changed or removed rows brings the whole table, and nothing from before it is a batch any more. So
    does the first one that can still be read, where the log of earlier ones was cleaned up before they were `admitted`,
    and a compaction after which the earlier files were vacuumed. The paths of a whole version and of those after it say
    since when they count.
    """

    def __init__(self, name: str, place: str, admitted: Callable[[], Iterable[str]] = tuple, within: str = "") -> None:
        self._name = name
        self._place = place
        self._within = within or place  # as the project calls it, wherever that is moved to
        self._admitted = admitted

    def batches(self, until: datetime) -> list[Batch]:
        commits = sorted(self._open().history(), key=lambda commit: int(commit["version"]))
        whole = self._whole(commits)
        found: list[Batch] = []
        since = max((version for version in whole if version < int(commits[0]["version"])), default=0)
        for commit in commits:
            version, arrived = int(commit["version"]), datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
            if arrived > until or version < since:
                continue
            if version in whole:
                found.clear()
                since = version
            elif commit.get("operation") not in _APPENDING:
                continue
            part = f"{since}+{version - since}" if since else str(version)
            name = f"{self._name}/v{part}@{hash_parts(version, commit['timestamp'])}"
            found.append(Batch(id=name, source=self._name, known_at=arrived, path=f"{self._within}#{part}"))
        return found

    def _whole(self, commits: list[dict[str, Any]]) -> set[int]:
        """The versions that bring the whole table: those that changed rows, and those before which nothing is left."""
        parts = re.compile(rf"{re.escape(self._name)}/v(\d+)(?:\+(\d+))?@")
        known = [(int(one[1]), one[2]) for one in map(parts.match, self._admitted()) if one]
        seen = max((begin + int(further or 0) for begin, further in known), default=-1)
        whole = {begin for begin, further in known if further is not None}
        whole |= {int(commit["version"]) for commit in commits if _changed(commit)}
        if seen < int(commits[0]["version"]) > 0:  # the log before was cleaned up
            whole.add(self._first_readable(commits))
        vacuumed = [place for place, one in enumerate(commits) if str(one.get("operation")).startswith("VACUUM")]
        before = commits[: vacuumed[-1]] if vacuumed else []
        compacted = [int(one["version"]) for one in before if one.get("operation") == "OPTIMIZE"]
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
        except (pl.exceptions.PolarsError, OSError) as gone:
            raise self._gone(version, str(gone).partition("\n")[0]) from None
        return read.select(name for name in columns if name in read.columns) if read is not None else pl.DataFrame()

    def _open(self, version: int | None = None) -> "DeltaTable":
        from deltalake.exceptions import DeltaError

        from tidemill.delta import LocalTable

        try:
            return LocalTable(self._place, version=version)
        except (DeltaError, OSError) as refused:
            said: Any = str(refused).partition("\n")[0]
            if version is not None:
                raise self._gone(version, said) from None
            raise DataError(
                f"source {self._name!r} has no Delta table at {self._place}: {said}", "check `path` in tidemill.toml"
            ) from None

    def _gone(self, version: int, said: str) -> DataError:
        return DataError(
            f"version {version} of {self._place} of source {self._name!r} cannot be read any more: {said}",
            "its files may have been vacuumed: keep them longer than the time between two ingestions",
        )


def _changed(commit: dict[str, Any]) -> bool:
    """Whether a commit changed or removed rows that were there, as far as it tells."""
    operation, how = commit.get("operation"), commit.get("operationParameters") or {}
    if operation == "MERGE":  # many only insert
        told = {name.replace("_", "").lower(): int(count) for name, count in _metrics(commit)}
        kept = [told.get(f"numtargetrows{done}") for done in ("updated", "deleted", "copied")]
        return kept != [0, 0, 0]
    overwrote = how.get("mode") == "Overwrite" or how.get("outputMode") == "Complete"
    return operation in _CHANGING or (operation in _APPENDING and overwrote)


def _metrics(commit: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a commit counted, by whoever wrote it: Spark writes numbers as text."""
    for name, count in (commit.get("operationMetrics") or {}).items():
        if str(count).isdigit():
            yield name, count
