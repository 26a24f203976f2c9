"""A Delta table as a source: each version that appended rows is one batch; one that changed rows brings them all."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl

from tidemill.core.resources import Batch
from tidemill.data.kinds.kind import version_of
from tidemill.errors import DataError

if TYPE_CHECKING:
    from deltalake import DeltaTable

_APPENDING = ("WRITE", "CREATE TABLE AS SELECT", "STREAMING UPDATE", "COPY INTO", "CONVERT", "CLONE", "MERGE")
_CHANGING = ("DELETE", "UPDATE", "MERGE", "RESTORE", "TRUNCATE", "REPLACE TABLE AS SELECT")
_ALSO_CHANGING = ("CREATE OR REPLACE TABLE AS SELECT", "REPLACE TABLE", "CREATE OR REPLACE TABLE")


class Delta:
    """A Delta table in a folder or an object store.

    After a version that changed or removed rows, nothing from before it is a batch any more: it brings the whole table,
    and its path and those of the versions after it say since when they count.
    """

    def __init__(self, name: str, place: str) -> None:
        self._name = name
        self._place = place

    def batches(self, until: datetime) -> list[Batch]:
        found: list[Batch] = []
        since = 0
        for commit in sorted(self._open().history(), key=lambda commit: int(commit["version"])):
            version, arrived = int(commit["version"]), datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
            if arrived > until:
                continue
            if _changed(commit):
                found.clear()
                since = version
            elif commit.get("operation") not in _APPENDING:
                continue
            name = f"{self._name}/v{version}@{version_of(version, commit['timestamp'])}"
            part = f"{since}+{version - since}" if since else version
            found.append(Batch(id=name, source=self._name, known_at=arrived, path=f"{self._place}#{part}"))
        return found

    def rows(self, batch: Batch) -> pl.DataFrame:
        part = batch.path.rpartition("#")[2]
        version, whole = sum(map(int, part.split("+"))), part.endswith("+0")
        try:
            table = self._open(version)
            before = set() if whole or not version else set(_files(self._open(version - 1)))
            new = sorted(set(_files(table)) - before)
            columns = list(pl.scan_delta(table).collect_schema())
            read = pl.read_parquet(new, hive_partitioning=True, missing_columns="insert") if new else None
        except (pl.exceptions.PolarsError, OSError) as gone:
            said = str(gone).partition("\n")[0]
            raise DataError(
                f"version {version} of {self._place} of source {self._name!r} cannot be read any more: {said}",
                "its files may have been vacuumed: keep them longer than the time between two ingestions",
            ) from None
        return read.select(name for name in columns if name in read.columns) if read is not None else pl.DataFrame()

    def _open(self, version: int | None = None) -> "DeltaTable":
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return DeltaTable(self._place, version=version)
        except (DeltaError, OSError) as refused:
            said: Any = str(refused).partition("\n")[0]
            raise DataError(
                f"source {self._name!r} has no Delta table at {self._place}: {said}", "check `path` in tidemill.toml"
            ) from None


def _changed(commit: dict[str, Any]) -> bool:
    """Whether a commit changed or removed rows that were there, as far as it tells."""
    operation, how = commit.get("operation"), commit.get("operationParameters") or {}
    if operation == "MERGE":  # many only insert
        told = {name.replace("_", "").lower(): int(count) for name, count in _metrics(commit)}
        kept = [told.get(f"numtargetrows{done}") for done in ("updated", "deleted", "copied")]
        return kept != [0, 0, 0]
    overwrote = how.get("mode") == "Overwrite" or how.get("outputMode") == "Complete"
    return operation in (*_CHANGING, *_ALSO_CHANGING) or (operation in _APPENDING and overwrote)


def _metrics(commit: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a commit counted, by whoever wrote it: Spark writes numbers as text."""
    for name, count in (commit.get("operationMetrics") or {}).items():
        if str(count).isdigit():
            yield name, count


def _files(table: "DeltaTable") -> list[str]:
    """Where its files are: Delta calls a folder as in a URL, also one that is on this machine."""
    uris = table.file_uris()
    if not table.table_uri.startswith("file://"):
        return uris
    folder = table.table_uri.removeprefix("file://")
    return [unquote(folder) + uri.removeprefix(folder) for uri in uris]
