"""Tables and queries as sources: of any SQL database, and of DuckDB.

With a growing column the rows come in blocks of it (10,000 whole numbers, or a day), and only blocks whose count or
greatest value changed are read again: what came late into one replaces it, and no row is there twice. Without one, the
whole result is one batch that comes again when it changes.
"""

from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from tidemill.core.batch import Batch
from tidemill.core.source import Source
from tidemill.data.kinds.kind import hash_frame, hash_parts
from tidemill.errors import ConfigurationError, DataError, MissingExtra

_BLOCK = 10_000


class QueryEngine(Protocol):
    """Where queries run: `place` names it without secrets, `within` as the project calls it, wherever that is."""

    place: str
    within: str

    def select(self, query: str) -> pl.DataFrame:
        """The rows of a query."""
        ...

    def quoted(self, name: str) -> str:
        """A name as the database takes it."""
        ...


class QuerySource:
    """The rows of a table or a query of a database."""

    def __init__(self, name: str, source: Source, database: QueryEngine) -> None:
        if bool(source.table) == bool(source.query):
            raise ConfigurationError(
                f"source {name!r} needs a table or a query", f'[sources.{name}] table = "…", or query = "select …"'
            )
        self._name = name
        self._source = source
        self._database = database
        table = ".".join(database.quoted(part) for part in source.table.split("."))
        self._from = table if source.table else f"({source.query.strip().rstrip(';')}) AS rows_of_query"
        self._held: tuple[str, pl.DataFrame] | None = None

    def batches(self, until: datetime) -> list[Batch]:
        if not self._source.growing:
            rows = self._select("*", "")
            identity = f"{self._name}/all@{hash_frame(rows)}"
            self._held = identity, rows
            return [self._batch(identity, "all", until)]
        return [self._batch(*block, until) for block in self._blocks()]

    def rows(self, batch: Batch) -> pl.DataFrame:
        block = batch.path.rpartition("#")[2]
        if block == "all":
            held = self._held
            if held is None or held[0] not in (batch.id, batch.id.rpartition("+")[0]):
                held = self._held = batch.id, self._select("*", "")
            return held[1]
        column = self._database.quoted(self._source.growing)
        if block.startswith("day "):
            return self._select("*", f"WHERE date({column}) = '{block[4:]}'")
        low = int(block.partition("-")[0]) if not block.startswith("-") else -int(block[1:].partition("-")[0])
        return self._select("*", f"WHERE {column} >= {low} AND {column} < {low + _BLOCK}")

    def _batch(self, identity: str, block: str, until: datetime) -> Batch:
        place = self._source.table or "query"
        path = f"{self._database.within} {place}#{block}"
        return Batch(id=identity, source=self._name, known_at=until, path=path)

    def _blocks(self) -> list[tuple[str, str]]:
        """The identity and the name of each block."""
        name = self._source.growing
        head = self._select("*", "LIMIT 1")
        if name not in head.columns:
            raise DataError(
                f"source {self._name!r} has no column {name!r} to grow by", f"its columns: {', '.join(head.columns)}"
            )
        column = self._database.quoted(name)
        first = self._select(column, f"WHERE {column} IS NOT NULL LIMIT 1")
        if not first.height:
            return []
        whole = isinstance(first.item(0, 0), int)
        # Twice, since the rest of a negative number is negative.
        start = f"{column} - ((({column} % {_BLOCK}) + {_BLOCK}) % {_BLOCK})" if whole else f"date({column})"
        counts = self._select(
            f"{start} AS block, count(*) AS counted, max({column}) AS newest", f"WHERE {column} IS NOT NULL GROUP BY 1"
        )
        found = []
        for begin, counted, newest in sorted(counts.iter_rows(), key=lambda row: row[0]):
            block = f"{begin}-{begin + _BLOCK}" if whole else f"day {_day(begin)}"
            found.append((f"{self._name}/{block}@{hash_parts(counted, newest)}", block))
        return found

    def _select(self, what: str, where: str) -> pl.DataFrame:
        try:
            return self._database.select(f"SELECT {what} FROM {self._from} {where}".strip())
        except (MissingExtra, DataError):
            raise
        except Exception as refused:  # noqa: BLE001 - every driver has errors of its own
            said = str(getattr(refused, "orig", None) or refused).strip().partition("\n")[0]
            raise DataError(
                f"source {self._name!r} cannot be read from {self._database.place}: {said}",
                "check its URL, its table or query, and that the database is there",
            ) from None


class SqlEngine:
    """Any database that SQLAlchemy, the extra `sql`, has a dialect for."""

    def __init__(self, url: str, within: str = "") -> None:
        try:
            from sqlalchemy import make_url
            from sqlalchemy.exc import ArgumentError, NoSuchModuleError
        except ImportError:
            raise MissingExtra("sqlalchemy", "sql") from None

        try:
            self._url = make_url(url)
            self._dialect = self._url.get_dialect()()
        except (ArgumentError, NoSuchModuleError):
            raise ConfigurationError(
                f"SQLAlchemy has no dialect for {url.partition('://')[0]!r}",
                'write the path as "postgresql+psycopg://user@host/database", or pip install its dialect',
            ) from None
        self.place = self._url.render_as_string(hide_password=True)
        self.within = within or self.place

    def select(self, query: str) -> pl.DataFrame:
        from sqlalchemy import create_engine, text

        try:
            engine = create_engine(self._url)
        except ModuleNotFoundError as absent:
            if self._url.get_backend_name() == "postgresql":
                raise MissingExtra("psycopg", "postgres") from None
            raise DataError(f"{self.place} needs a driver: {absent}", "pip install it beside Tidemill") from None
        try:
            if engine.dialect.name == "sqlite" and not Path(self._url.database or "").is_file():
                raise DataError(f"there is no database {self._url.database}", "check `path` in tidemill.toml")
            with engine.connect() as connection:
                return pl.read_database(text(query.replace(":", r"\:")), connection, infer_schema_length=None)
        finally:
            engine.dispose()

    def quoted(self, name: str) -> str:
        return str(self._dialect.identifier_preparer.quote(name))


class DuckDbEngine:
    """DuckDB, on a database file or on the files that its query names, which may be relative to the project."""

    def __init__(self, path: str, folder: Path) -> None:
        self.place = self.within = path
        self._folder = folder

    def select(self, query: str) -> pl.DataFrame:
        try:
            import duckdb
            import pyarrow  # noqa: F401 - DuckDB hands its rows over in PyArrow's tables
        except ImportError as absent:
            raise MissingExtra(absent.name or "duckdb", "duckdb") from None
        memory = self.place == ":memory:"
        file = str(self._folder / self.place)
        with duckdb.connect(":memory:" if memory else file, read_only=not memory) as connection:
            connection.execute(f"SET file_search_path = '{str(self._folder).replace(chr(39), chr(39) * 2)}'")
            connection.execute("SET TimeZone = 'UTC'")
            return pl.DataFrame(connection.sql(query).to_arrow_table())

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


def _day(found: Any) -> str:
    return found.isoformat()[:10] if isinstance(found, date) else str(found)[:10]
