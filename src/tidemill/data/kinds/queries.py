"""Tables and queries as sources: of any SQL database, and of DuckDB.

With a growing column, a batch is a block of its values: 10,000 whole numbers, or a day. Only blocks whose count or
greatest value changed are read again and replaced, so that no row is duplicated. Without a growing column, the whole
result is one batch; it is read again when it changes.
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
    """A database that runs queries.

    `display_name` names it without secrets. `batch_path` names it in the paths of batches; it stays the same when the
    project moves.
    """

    display_name: str
    batch_path: str

    def select(self, query: str) -> pl.DataFrame:
        """Return the rows of a query."""
        ...

    def quote(self, name: str) -> str:
        """Return a name in the quotes of the database."""
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
        table = ".".join(database.quote(part) for part in source.table.split("."))
        self._from = table if source.table else f"({source.query.strip().rstrip(';')}) AS rows_of_query"
        self._last: tuple[str, pl.DataFrame] | None = None

    def batches(self, until: datetime) -> list[Batch]:
        if not self._source.growing:
            rows = self._select("*", "")
            identity = f"{self._name}/all@{hash_frame(rows)}"
            self._last = identity, rows
            return [self._batch(identity, "all", until)]
        return [self._batch(*block, until) for block in self._blocks()]

    def rows(self, batch: Batch) -> pl.DataFrame:
        block = batch.path.rpartition("#")[2]
        if block == "all":
            last = self._last
            if last is None or last[0] not in (batch.id, batch.id.rpartition("+")[0]):
                last = self._last = batch.id, self._select("*", "")
            return last[1]
        column = self._database.quote(self._source.growing)
        if block.startswith("day "):
            return self._select("*", f"WHERE date({column}) = '{block[4:]}'")
        low = int(block.partition("-")[0]) if not block.startswith("-") else -int(block[1:].partition("-")[0])
        return self._select("*", f"WHERE {column} >= {low} AND {column} < {low + _BLOCK}")

    def _batch(self, identity: str, block: str, until: datetime) -> Batch:
        path = f"{self._database.batch_path} {self._source.table or 'query'}#{block}"
        return Batch(id=identity, source=self._name, known_at=until, path=path)

    def _blocks(self) -> list[tuple[str, str]]:
        """Return the id and the name of each block."""
        name = self._source.growing
        head = self._select("*", "LIMIT 1")
        if name not in head.columns:
            raise DataError(
                f"source {self._name!r} has no column {name!r} to grow by", f"its columns: {', '.join(head.columns)}"
            )
        column = self._database.quote(name)
        first = self._select(column, f"WHERE {column} IS NOT NULL LIMIT 1")
        if not first.height:
            return []
        whole = isinstance(first.item(0, 0), int)
        # The remainder of a negative number is negative in SQL: the second one is not.
        start = f"{column} - ((({column} % {_BLOCK}) + {_BLOCK}) % {_BLOCK})" if whole else f"date({column})"
        counts = self._select(
            f"{start} AS block, count(*) AS counted, max({column}) AS newest", f"WHERE {column} IS NOT NULL GROUP BY 1"
        )
        blocks = []
        for begin, counted, newest in sorted(counts.iter_rows(), key=lambda row: row[0]):
            block = f"{begin}-{begin + _BLOCK}" if whole else f"day {_day(begin)}"
            blocks.append((f"{self._name}/{block}@{hash_parts(counted, newest)}", block))
        return blocks

    def _select(self, columns: str, condition: str) -> pl.DataFrame:
        try:
            return self._database.select(f"SELECT {columns} FROM {self._from} {condition}".strip())
        except (MissingExtra, DataError):
            raise
        except Exception as error:  # noqa: BLE001 - every driver has errors of its own
            message = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise DataError(
                f"source {self._name!r} cannot be read from {self._database.display_name}: {message}",
                "check its URL, its table or query, and that the database runs",
            ) from None


class SqlEngine:
    """Any database with a dialect of SQLAlchemy, which is the extra `sql`."""

    def __init__(self, url: str, batch_path: str = "") -> None:
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
        self.display_name = self._url.render_as_string(hide_password=True)
        self.batch_path = batch_path or self.display_name

    def select(self, query: str) -> pl.DataFrame:
        from sqlalchemy import create_engine, text

        try:
            engine = create_engine(self._url)
        except ModuleNotFoundError as absent:
            if self._url.get_backend_name() == "postgresql":
                raise MissingExtra("psycopg", "postgres") from None
            raise DataError(f"{self.display_name} needs a driver: {absent}", "install it with pip") from None
        try:
            if engine.dialect.name == "sqlite" and not Path(self._url.database or "").is_file():
                raise DataError(f"there is no database {self._url.database}", "check `path` in tidemill.toml")
            with engine.connect() as connection:
                return pl.read_database(text(query.replace(":", r"\:")), connection, infer_schema_length=None)
        finally:
            engine.dispose()

    def quote(self, name: str) -> str:
        return str(self._dialect.identifier_preparer.quote(name))


class DuckDbEngine:
    """DuckDB, on a database file or on the files in its query; relative paths start at the project's folder."""

    def __init__(self, path: str, folder: Path) -> None:
        self.display_name = self.batch_path = path
        self._folder = folder

    def select(self, query: str) -> pl.DataFrame:
        try:
            import duckdb
            import pyarrow  # noqa: F401 - DuckDB returns its rows as PyArrow tables
        except ImportError as absent:
            raise MissingExtra(absent.name or "duckdb", "duckdb") from None
        memory = self.display_name == ":memory:"
        file = str(self._folder / self.display_name)
        with duckdb.connect(":memory:" if memory else file, read_only=not memory) as connection:
            connection.execute(f"SET file_search_path = '{str(self._folder).replace(chr(39), chr(39) * 2)}'")
            connection.execute("SET TimeZone = 'UTC'")
            return pl.DataFrame(connection.sql(query).to_arrow_table())

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


def _day(value: Any) -> str:
    return value.isoformat()[:10] if isinstance(value, date) else str(value)[:10]
