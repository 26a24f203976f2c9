"""Versioned tables on Delta Lake; a batch is appended completely, and only once."""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from tidemill.core.damage import Damage
from tidemill.delta import LocalTable
from tidemill.errors import Conflict, Corrupt, NotFound, TidemillError
from tidemill.faults import maybe_crash
from tidemill.journal.appended import AppendedBatches
from tidemill.journal.copying import open_files, write_files
from tidemill.journal.earlier_names import find_earlier_names
from tidemill.journal.part_files import PartFiles
from tidemill.journal.table_files import CHECKSUMS, CURE, TableFiles
from tidemill.journal.table_log import find_name, forget_statistics, read_actions
from tidemill.journal.widening import widen, wider_types
from tidemill.locks import lock_file
from tidemill.presence import StoreFolder

_COMPACT_EVERY = 50
_TRIES = 50
_APPENDING = 3600.0  # seconds
_ADDING = ("WRITE", "MERGE", "STREAMING UPDATE", "CREATE TABLE AS SELECT")
_LOG = re.compile(r"(\d{20})\.(json|checkpoint\.parquet|checkpoint\.\d+\.\d+\.parquet)")
_ERASURE = CommitProperties(custom_metadata={"erasure": "true"})


class DeltaTables:
    """The tables of one environment, each a Delta table in a folder under `root`."""

    writable: ClassVar[bool] = True

    def __init__(self, root: str) -> None:
        self._root = root
        self._store = StoreFolder(Path(root), "the tables of rows")
        self._open_tables: dict[str, LocalTable] = {}
        self._table_files: dict[str, TableFiles] = {}
        self._appended: dict[str, AppendedBatches] = {}

    def _open(self, table: str) -> DeltaTable | None:
        """Open the newest version of a table; an open table reads only new entries of its log."""
        self._store.require()
        known = self._open_tables.get(table)
        try:
            if known is None or known.is_replaced():
                known = self._open_tables[table] = LocalTable(f"{self._root}/{table}")
            elif not known.is_newest():
                known.update_incremental()
        except TableNotFoundError:
            self._require_log(table)
            return None
        except DeltaError as error:
            self._open_tables.pop(table, None)
            self._require_log(table)
            reason = str(error).strip().partition("\n")[0]
            raise Corrupt(f"table {table!r} cannot be opened: {reason}", CURE) from None
        self._require_log(table)
        return known

    def _require_log(self, table: str) -> None:
        """Raise `Corrupt` if an entry of the log is missing or damaged: rows would be missing, or an old file used."""
        for damage in self._files_of(table).verify_log():
            self._open_tables.pop(table, None)
            raise Corrupt(f"table {table!r}: {damage.problem}", damage.cure)

    def version(self, table: str) -> int:
        """Return the newest version of a table, or -1 if it does not exist."""
        existing = self._open(table)
        return existing.version() if existing else -1

    def last_append(self, table: str, since: int = -1) -> int:
        """Return the newest version after `since` that added rows, or -1; compactions and erasures add none."""
        existing = self._open(table)
        if existing is None or existing.version() <= since:
            return -1
        commits = existing.history(existing.version() - since)
        if not commits:  # the log no longer has these commits
            return existing.version()
        return max((int(commit["version"]) for commit in commits if _adds_rows(commit)), default=-1)

    def read(self, table: str, version: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rows of a version; raise `NotFound` if the table or the version does not exist."""
        self._store.require()
        try:
            newest_version = self._open(table)
            if newest_version is not None and newest_version.version() == version:
                table_version: DeltaTable = newest_version
            else:
                table_version = LocalTable(f"{self._root}/{table}", version=version)
        except TableNotFoundError:
            raise NotFound(
                f"table {table!r} does not exist", "ingest its source first: `tidemill run ingestion`"
            ) from None
        except (DeltaError, OverflowError) as wrong:
            newest = self.version(table)
            if 0 <= version <= newest:
                raise TidemillError(
                    f"version {version} of table {table!r} cannot be read: {wrong}", "restore a backup, or ingest again"
                ) from wrong
            raise NotFound(f"table {table!r} has no version {version}", f"use the newest version, {newest}") from None
        rows = _scan(table_version)
        try:
            self._require_intact(table, table_version)
            return (rows.select(columns) if columns is not None else rows).collect()
        except FileNotFoundError:
            raise NotFound(
                f"version {version} of table {table!r} can no longer be read: some of its rows were erased",
                f"use the newest version, {self.version(table)}",
            ) from None

    def _require_intact(self, table: str, opened: DeltaTable) -> None:
        """Raise `Corrupt` if a file of a version does not have the bytes that were written; erased ones are missing."""
        for damage in self._files_of(table).verify(_list_live(opened)):
            if damage.state != "missing" or opened.version() == self.version(table):
                raise Corrupt(f"table {table!r}: {damage.problem}", damage.cure)

    def _files_of(self, table: str) -> TableFiles:
        return self._table_files.setdefault(table, TableFiles(Path(self._root) / table))

    def check(self) -> Iterator[Damage]:
        """Read every file of the newest versions again, and yield those that are damaged or missing."""
        self._table_files.clear()
        yield from self.damages()

    def damages(self) -> list[Damage]:
        """Return the damaged and missing files of the newest versions; those that were verified are not read again."""
        return [damage for name in self.names() for damage in self._list_damages(name)]

    def _list_damages(self, table: str) -> list[Damage]:
        files = self._files_of(table)
        if damages := list(files.verify_log()):
            return damages
        try:
            opened = self._open(table)
        except Corrupt as damage:
            where = f"{table}/_delta_log"
            return [Damage(store="tables", name=where, state="damaged", problem=damage.problem, cure=damage.cure)]
        return list(files.verify(_list_live(opened))) if opened is not None else []

    def put_back(self, name: str, content: bytes) -> bool:
        """Write the bytes of the file `TABLE/FILE` from a backup; return False if they are not those of the file."""
        table, _, file = name.partition("/")
        return self._files_of(table).put_back(file, content)

    def append(self, table: str, batch: str, frame: pl.DataFrame) -> int:
        """Append a batch, unless the table has it; return a version that contains it, as `append_all` does."""
        return self.append_all(table, {batch: frame})

    def append_all(self, table: str, batches: Mapping[str, pl.DataFrame]) -> int:
        """Append the batches that the table does not have, in one version; return a version that contains them all.

        A column that the table does not have yet is added (null in older rows).

        Raises
        ------
        TidemillError
            if the batches cannot be written; no row of them is in the table then.
        """
        for _ in range(_TRIES):
            existing = self._open(table)
            missing = list(batches) if existing is None else self._find_missing(table, existing, batches)
            if existing is not None and not missing:
                return existing.version()
            frames = [batches[batch] for batch in missing]
            try:
                frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
                self._append(table, existing, missing, frame)
            except (DeltaError, OSError) as refused:
                self._open_tables.pop(table, None)
                if isinstance(refused, CommitFailedError):  # another process was faster: read its version
                    continue
                others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise TidemillError(
                    f"batch {missing[0]!r}{others} could not be appended to table {table!r}: {refused}",
                    "check free space, permissions and the types of its columns; no row of the batch was written",
                ) from refused
            return self._compact_and_read_version(table)
        raise Conflict(f"other processes keep writing table {table!r}", "try again")

    def append_parts(self, table: str, batch: str, parts: Callable[[], Iterable[pl.DataFrame]]) -> int:
        """Append a batch that comes in parts, in one version; return a version that contains it.

        Raises
        ------
        TidemillError
            if the batch cannot be written; no row of it is in the table then.
        """
        with lock_file(self._store.create() / f".{table}.parts.lock"):
            existing = self._open(table)
            if existing is not None and not self._find_missing(table, existing, [batch]):
                return existing.version()
            files = PartFiles(Path(self._root) / table, batch)
            files.sweep()  # of a process that was killed
            try:
                files.write(parts(), lambda part: self._prepare_columns(table, part))
                maybe_crash("parts are written")
                return self._commit_parts(table, batch, files)
            except (DeltaError, OSError, pl.exceptions.PolarsError) as refused:
                files.sweep()
                raise TidemillError(
                    f"batch {batch!r} could not be appended to table {table!r}: {refused}",
                    "check free space, permissions and the types of its columns; no row of the batch was written",
                ) from refused
            except TidemillError:
                files.sweep()
                raise

    def _prepare_columns(self, table: str, part: pl.DataFrame) -> pl.Schema:
        """Return the columns of a table, after those that only a part has were added to it."""
        existing = self._open(table)
        if existing is None or set(part.columns) - {field.name for field in existing.schema().fields}:
            for _ in range(_TRIES):
                with suppress(CommitFailedError):
                    self._append(table, self._open(table), [], part.clear())
                    break
            existing = self._open(table)
        assert existing is not None
        return pl.scan_delta(existing).collect_schema()

    def _commit_parts(self, table: str, batch: str, files: PartFiles) -> int:
        for _ in range(_TRIES):
            existing = self._open(table)
            assert existing is not None
            if not self._find_missing(table, existing, [batch]):
                files.sweep()
                return existing.version()
            properties = CommitProperties(app_transactions=[Transaction(batch, 1)])
            with suppress(CommitFailedError):  # another process was faster
                existing.create_write_transaction(
                    files.additions, "append", existing.schema(), commit_properties=properties
                )
                return self._compact_and_read_version(table)
        raise Conflict(f"other processes keep writing table {table!r}", "try again")

    def _find_missing(self, table: str, existing: DeltaTable, batches: Iterable[str]) -> list[str]:
        """Return the batches that a table does not have."""
        appended = self._appended.setdefault(table, AppendedBatches(Path(self._root) / table))
        known = appended.read(str(existing.metadata().id), existing.version())
        if known is None:
            return [batch for batch in batches if existing.transaction_version(batch) is None]
        return [batch for batch in batches if batch not in known]

    def _append(self, table: str, existing: DeltaTable | None, batches: Sequence[str], frame: pl.DataFrame) -> None:
        commit_properties = CommitProperties(app_transactions=[Transaction(batch, 1) for batch in batches])
        if existing is not None:
            table_rows = _scan(existing)
            wider = wider_types(table_rows.collect_schema(), frame)
            if wider or find_earlier_names(field.name for field in existing.schema().fields):
                # Delta would convert 2.5 to 2 silently, so a new version of the table gets the wider types.
                self._require_intact(table, existing)
                rows = pl.concat([widen(frame, wider), widen(table_rows.collect(), wider)], how="diagonal_relaxed")
                write_deltalake(
                    existing, rows, mode="overwrite", schema_mode="overwrite", commit_properties=commit_properties
                )
                return
            write_deltalake(existing, frame, mode="append", schema_mode="merge", commit_properties=commit_properties)
            return
        # Delta detects that two processes append the same batch, but not that two create the table with it.
        root = self._store.create()
        with lock_file(root / f".{table}.lock"):
            if self._open(table) is not None:
                raise CommitFailedError("another process has created the table")
            self._store.make(table)
            write_deltalake(str(root / table), frame, commit_properties=commit_properties)

    def _compact_and_read_version(self, table: str) -> int:
        written = self._open(table)
        assert written is not None
        if written.version() % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            self._require_intact(table, written)  # the compacted file would get a checksum of the damaged rows
            with suppress(CommitFailedError):  # another process compacts it
                written.optimize.compact()
        self._record(table, written)
        return written.version()

    def _record(self, table: str, written: DeltaTable) -> None:
        """Write the checksums of the files that make up the newest version."""
        files = self._files_of(table)
        files.record(_list_live(written))
        files.record_log(written.version())

    def names(self) -> list[str]:
        """Return the names of the tables."""
        self._store.require()
        return sorted(log.parent.name for log in Path(self._root).glob("*/_delta_log"))

    def erase(self, table: str, matches: Callable[[pl.DataFrame], pl.Series], *, dry_run: bool = False) -> int:
        """Delete the rows for which `matches` is true, in a new version; return the number of rows.

        Older versions with such rows can no longer be read, because their files are deleted, too. After a crash at any
        point it can be repeated.

        Raises
        ------
        TidemillError
            if the table cannot be written; no row is deleted then.
        """
        for _ in range(_TRIES):
            existing = self._open(table)
            if existing is None:
                return 0
            self._require_intact(table, existing)
            rows = pl.scan_delta(existing).collect()
            marked = matches(rows).fill_null(value=False)
            count = int(marked.sum())
            if dry_run:
                return count
            try:
                if count:
                    # Delta's deletion would keep its predicate, which contains the person's key, in the log for ever.
                    write_deltalake(existing, rows.filter(~marked), mode="overwrite", commit_properties=_ERASURE)
                maybe_crash("table is rewritten")
                self._purge(table, matches)
                self._record(table, existing)
            except CommitFailedError:
                continue
            except (DeltaError, OSError) as refused:
                raise TidemillError(
                    f"rows could not be erased from table {table!r}: {refused}",
                    "check free space and permissions, then erase again",
                ) from refused
            finally:
                self._open_tables.pop(table, None)
            return count
        raise Conflict(f"other processes keep writing table {table!r}", "try again")

    def _purge(self, table: str, matches: Callable[[pl.DataFrame], pl.Series]) -> None:
        """Delete the files of older versions with such rows, and the statistics of their values in the log."""
        folder = Path(self._root) / table
        newest = LocalTable(str(folder))
        live = {find_name(uri) for uri in newest.file_uris()}
        logs = sorted((folder / "_delta_log").glob("*.json"))
        logged = {find_name(action["add"]["path"]) for log in logs for action in read_actions(log) if "add" in action}
        for file in folder.glob("*.parquet"):
            # A new file that is in no version may belong to a batch that another process appends now.
            settled = file.name in logged or time.time() - file.stat().st_mtime > _APPENDING
            if file.name not in live and settled and matches(pl.read_parquet(file)).fill_null(value=False).any():
                file.unlink()
                maybe_crash("table has lost a file")
        lost = logged - {file.name for file in folder.glob("*.parquet")}
        for log in logs:
            forget_statistics(log, lost, self._files_of(table))
        if lost and (old := [*(folder / "_delta_log").glob("*.checkpoint*.parquet")]):
            newest.create_checkpoint()
            for checkpoint in old:
                if int(checkpoint.name[:20]) < newest.version():
                    checkpoint.unlink()

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over each table's log, then its files: every file in the log was written before it."""
        for name in self.names():
            yield from open_files(Path(self._root), self._files(name))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty store from an export."""
        write_files(self._store, files)

    def _files(self, table: str) -> Iterator[Path]:
        """Iterate over the files of the newest version and of the versions before it."""
        folder = Path(self._root) / table
        log = folder / "_delta_log"
        yield folder / CHECKSUMS
        yield log / "_last_checkpoint"
        newest = self.version(table)
        for entry in sorted(log.iterdir()):
            version = _LOG.fullmatch(entry.name)
            if version and int(version[1]) <= newest:
                yield entry
        yield from (file for file in sorted(folder.rglob("*.parquet")) if log not in file.parents)

    def drop(self, table: str) -> None:
        """Delete a table and its history."""
        self._open_tables.pop(table, None)
        self._table_files.pop(table, None)
        self._appended.pop(table, None)
        shutil.rmtree(Path(self._root) / table, ignore_errors=True)


def _list_live(table: DeltaTable) -> list[str]:
    return [find_name(uri) for uri in table.file_uris()]


def _scan(table: DeltaTable) -> pl.LazyFrame:
    rows = pl.scan_delta(table)
    return rows.rename(find_earlier_names(rows.collect_schema()))


def _adds_rows(commit: dict[str, Any]) -> bool:
    added = (commit.get("operationMetrics") or {}).get("num_added_rows")
    return commit.get("operation") in _ADDING and added != 0 and "erasure" not in commit
