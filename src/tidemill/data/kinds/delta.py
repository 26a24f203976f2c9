"""A Delta table as a source: each version that appended rows is one batch."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl

from tidemill.core.resources import Batch
from tidemill.data.kinds.kind import version_of
from tidemill.errors import DataError

if TYPE_CHECKING:
    from deltalake import DeltaTable

_APPENDING = ("WRITE", "CREATE TABLE AS SELECT", "STREAMING UPDATE")


class Delta:
    """A Delta table in a folder or an object store; what came before the last overwrite is no batch any more."""

    def __init__(self, name: str, place: str) -> None:
        self._name = name
        self._place = place

    def batches(self, until: datetime) -> list[Batch]:
        found: list[Batch] = []
        history = sorted(self._open().history(), key=lambda commit: int(commit["version"]))
        for commit in history:
            if commit.get("operation") not in _APPENDING:
                continue
            if (commit.get("operationParameters") or {}).get("mode") == "Overwrite":
                found.clear()
            version, arrived = commit["version"], datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
            name = f"{self._name}/v{version}@{version_of(version, commit['timestamp'])}"
            found.append(Batch(id=name, source=self._name, known_at=arrived, path=f"{self._place}#{version}"))
        return [batch for batch in found if batch.known_at <= until]

    def rows(self, batch: Batch) -> pl.DataFrame:
        version = int(batch.path.rpartition("#")[2])
        try:
            table = self._open(version)
            before = set(_files(self._open(version - 1))) if version else set()
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


def _files(table: "DeltaTable") -> list[str]:
    """Where its files are: Delta calls a folder as in a URL, also one that is on this machine."""
    uris = table.file_uris()
    if not table.table_uri.startswith("file://"):
        return uris
    folder = table.table_uri.removeprefix("file://")
    return [unquote(folder) + uri.removeprefix(folder) for uri in uris]
