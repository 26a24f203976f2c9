"""Tables with history: Delta Lake; a batch is appended whole, and once."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from tidemill.delta import LocalTable
from tidemill.errors import Conflict, NotFound, TidemillError
from tidemill.faults import maybe_crash
from tidemill.journal.copying import exported, loaded
from tidemill.journal.widening import wider_types
from tidemill.locks import lock_file

_COMPACT_EVERY = 50
_TRIES = 50
_APPENDING = 3600.0  # seconds
_BRINGING = ("WRITE", "MERGE", "STREAMING UPDATE", "CREATE TABLE AS SELECT")
_LOG = re.compile(r"(\d{20})\.(json|checkpoint\.parquet|checkpoint\.\d+\.\d+\.parquet)")
_ERASURE = CommitProperties(custom_metadata={"erasure": "true"})


class DeltaTables:
    """The tables of one environment, each a Delta table in a folder under `root`."""

    writable: ClassVar[bool] = True

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, LocalTable] = {}

    def _open(self, table: str) -> DeltaTable | None:
        """The newest state of a table; one that was opened before only reads what has come since."""
        known = self._known.get(table)
        try:
            if known is None:
                known = self._known[table] = LocalTable(f"{self._root}/{table}")
            else:
                known.update_incremental()
        except TableNotFoundError:
            return None
        return known

    def version(self, table: str) -> int:
        """The newest version of a table, -1 where there is none yet."""
        found = self._open(table)
        return found.version() if found else -1

    def last_append(self, table: str, since: int = -1) -> int:
        """The newest version after `since` that brought rows, -1 where none did, as of a compaction or an erasure."""
        found = self._open(table)
        if found is None or found.version() <= since:
            return -1
        commits = found.history(found.version() - since)
        if not commits:  # nobody can tell any more
            return found.version()
        return max((int(commit["version"]) for commit in commits if _brings_rows(commit)), default=-1)

    def read(self, table: str, version: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of that version; raises `NotFound` where there is no such table or version."""
        try:
            found = LocalTable(f"{self._root}/{table}", version=version)
        except TableNotFoundError:
            raise NotFound(
                f"there is no table {table!r}", "ingest its source first: `tidemill run ingestion`"
            ) from None
        except (DeltaError, OverflowError) as wrong:
            newest = self.version(table)
            if 0 <= version <= newest:
                raise TidemillError(
                    f"version {version} of table {table!r} cannot be read: {wrong}", "restore a backup, or ingest again"
                ) from wrong
            raise NotFound(f"table {table!r} has no version {version}", f"the newest is {newest}") from None
        rows = pl.scan_delta(found)
        try:
            return (rows.select(columns) if columns is not None else rows).collect()
        except FileNotFoundError:
            raise NotFound(
                f"version {version} of table {table!r} held rows that were erased since: it cannot be read any more",
                f"run it on the newest version, {self.version(table)}",
            ) from None

    def append(self, table: str, batch: str, frame: pl.DataFrame) -> int:
        """Append a batch, unless it is there; the version that holds it.

        A column that the table does not have yet is added (null in older rows).

        Raises
        ------
        TidemillError
            if it cannot be written: nothing of it is in the table.
        """
        for _ in range(_TRIES):
            found = self._open(table)
            if found is not None and found.transaction_version(batch) is not None:
                return found.version()
            try:
                self._append(table, found, batch, frame)
            except (DeltaError, OSError) as refused:
                self._known.pop(table, None)
                if isinstance(refused, CommitFailedError):  # another process was first: see what it wrote
                    continue
                raise TidemillError(
                    f"batch {batch!r} could not be appended to table {table!r}: {refused}",
                    "check free space, permissions and the types of its columns; nothing of it is in the table",
                ) from refused
            return self._written(table)
        raise Conflict(f"table {table!r} keeps being written by others", "try again")

    def _append(self, table: str, found: DeltaTable | None, batch: str, frame: pl.DataFrame) -> None:
        once = CommitProperties(app_transactions=[Transaction(batch, 1)])
        if found is not None:
            table_rows = pl.scan_delta(found)
            if wider := wider_types(table_rows.collect_schema(), frame):
                # Delta would cut 2.5 down to 2 without a word: the table gets the wider types, in one new version.
                rows = pl.concat([frame.cast(wider), table_rows.cast(wider).collect()], how="diagonal_relaxed")
                write_deltalake(found, rows, mode="overwrite", schema_mode="overwrite", commit_properties=once)
                return
            write_deltalake(found, frame, mode="append", schema_mode="merge", commit_properties=once)
            return
        # Delta notices when two append the same batch, but not when two create the table with it.
        root = Path(self._root)
        root.mkdir(parents=True, exist_ok=True)
        with lock_file(root / f".{table}.lock"):
            if self._open(table) is not None:
                raise CommitFailedError("the table was created meanwhile")
            write_deltalake(str(root / table), frame, commit_properties=once)

    def _written(self, table: str) -> int:
        written = self._open(table)
        assert written is not None
        if written.version() % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            with suppress(CommitFailedError):  # another process is at it
                written.optimize.compact()
        return written.version()

    def names(self) -> list[str]:
        """The tables that there are."""
        return sorted(log.parent.name for log in Path(self._root).glob("*/_delta_log"))

    def erase(self, table: str, matches: Callable[[pl.DataFrame], pl.Series], *, dry_run: bool = False) -> int:
        """Drop the rows for which `of` is true, in one new version; how many went, or would go.

        Older versions that hold such rows cannot be read any more: their files are deleted, too. Killed at any point,
        it can be done again.

        Raises
        ------
        TidemillError
            if it cannot be written: then all rows are still there.
        """
        for _ in range(_TRIES):
            found = self._open(table)
            if found is None:
                return 0
            rows = pl.scan_delta(found).collect()
            marked = matches(rows).fill_null(value=False)
            gone = int(marked.sum())
            if dry_run:
                return gone
            try:
                if gone:
                    # Delta's own deletion would keep its predicate, and so the person's key, in the log for ever.
                    write_deltalake(found, rows.filter(~marked), mode="overwrite", commit_properties=_ERASURE)
                maybe_crash("table is rewritten")
                self._purge(table, matches)
            except CommitFailedError:
                continue
            except (DeltaError, OSError) as refused:
                raise TidemillError(
                    f"rows could not be erased from table {table!r}: {refused}",
                    "check free space and permissions, then erase again",
                ) from refused
            finally:
                self._known.pop(table, None)
            return gone
        raise Conflict(f"table {table!r} keeps being written by others", "try again")

    def _purge(self, table: str, matches: Callable[[pl.DataFrame], pl.Series]) -> None:
        """Delete the files of older versions that hold such rows, and what the log says of the values in them."""
        folder = Path(self._root) / table
        newest = LocalTable(str(folder))
        live = {_name(uri) for uri in newest.file_uris()}
        logs = sorted((folder / "_delta_log").glob("*.json"))
        logged = {_name(action["add"]["path"]) for log in logs for action in _actions(log) if "add" in action}
        for file in folder.glob("*.parquet"):
            # What no version names yet may be of a batch that is being appended at this moment.
            settled = file.name in logged or time.time() - file.stat().st_mtime > _APPENDING
            if file.name not in live and settled and matches(pl.read_parquet(file)).fill_null(value=False).any():
                file.unlink()
                maybe_crash("table has lost a file")
        lost = logged - {file.name for file in folder.glob("*.parquet")}
        for log in logs:
            _forget_statistics(log, lost)
        if lost and (old := [*(folder / "_delta_log").glob("*.checkpoint*.parquet")]):
            newest.create_checkpoint()
            for checkpoint in old:
                if int(checkpoint.name[:20]) < newest.version():
                    checkpoint.unlink()

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Each table's log, then its files: the log names no file that was not there before it."""
        for name in self.names():
            yield from exported(Path(self._root), self._files(name))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty store from an export."""
        loaded(Path(self._root), files)

    def _files(self, table: str) -> Iterator[Path]:
        """The files of the newest version and of those before it; each entry of the log is there when it is named."""
        folder = Path(self._root) / table
        log = folder / "_delta_log"
        yield log / "_last_checkpoint"
        newest = self.version(table)
        for entry in sorted(log.iterdir()):
            version = _LOG.fullmatch(entry.name)
            if version and int(version[1]) <= newest:
                yield entry
        yield from (file for file in sorted(folder.rglob("*.parquet")) if log not in file.parents)

    def drop(self, table: str) -> None:
        """Forget a table and its history."""
        self._known.pop(table, None)
        shutil.rmtree(Path(self._root) / table, ignore_errors=True)


def _brings_rows(commit: dict[str, Any]) -> bool:
    added = (commit.get("operationMetrics") or {}).get("num_added_rows")
    return commit.get("operation") in _BRINGING and added != 0 and "erasure" not in commit


def _name(path: str) -> str:
    return unquote(path).rpartition("/")[2]


def _actions(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _forget_statistics(log: Path, files: set[str]) -> None:
    """Take the least and greatest values of files out of an entry of the log, in one move."""
    actions = _actions(log)
    told = [a["add"] for a in actions if "add" in a and a["add"].get("stats") and _name(a["add"]["path"]) in files]
    if not told:
        return
    for add in told:
        del add["stats"]
    draft = log.with_name(f".{log.name}.draft")
    draft.write_text("".join(f"{json.dumps(action, ensure_ascii=False)}\n" for action in actions), encoding="utf-8")
    draft.replace(log)
