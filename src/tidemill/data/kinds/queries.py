"""Tables and queries as sources: of any SQL database, and of DuckDB.

With a growing column, a batch is a block of its values: 10,000 numbers, or a day. Only blocks whose count or greatest
value changed are read again and replaced, so that no row is duplicated. Rows without a value are read when they have
one; a warning reports their number. Without a growing column, the whole result is one batch; it is read again when it
changes.
"""

import math
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from tidemill.core.batch import Batch
from tidemill.core.source import Source
from tidemill.credentials import hide_url
from tidemill.data.kinds.kind import hash_frame, hash_parts
from tidemill.data.kinds.statement import strip_statement
from tidemill.data.storable import to_storable
from tidemill.errors import ConfigurationError, DataError, MissingExtra
from tidemill.telemetry import get_logger

_BLOCK = 10_000
_PRECISION = 2**50  # a quotient of floating-point numbers has an error below one part in this number
_WHOLE_CURE = "choose a column of numbers or times, or remove `growing`: then each ingestion reads all rows"


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
        # The newline ends a comment in the last line of the query.
        self._from = table if source.table else f"({strip_statement(source.query, name)}\n) AS rows_of_query"
        self._last: tuple[str, pl.DataFrame] | None = None
        self._counts: dict[str, int] = {}
        self._reported_nulls = 0

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
            rows = self._select("*", f"WHERE date({column}) = '{block[4:]}'")
        else:
            low = int(block.partition("-")[0]) if not block.startswith("-") else -int(block[1:].partition("-")[0])
            # The range lets the database use an index; the quotient decides, as it does where blocks are listed.
            margin = _BLOCK + abs(low) // _PRECISION
            within = f"{column} >= {low - margin} AND {column} < {low + _BLOCK + margin}"
            rows = self._select("*", f"WHERE {within} AND {_quotient(column)} = {low // _BLOCK}")
        if rows.height < (counted := self._counts.get(block, 0)):
            raise DataError(
                f"source {self._name!r} has {counted} rows in the block {block} of its growing column "
                f"{self._source.growing!r}, but only {rows.height} can be read by its values",
                "run the ingestion again if rows were deleted meanwhile; otherwise give all values of the column one "
                "type, or remove `growing`",
            )
        return rows

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
        self._report_nulls(column)
        first = self._select(column, f"WHERE {column} IS NOT NULL LIMIT 1")
        if not first.height:
            return []
        is_number = isinstance(first.item(0, 0), int | float | Decimal)
        begin = _quotient(column) if is_number else f"date({column})"
        counts = self._select(
            f"{begin} AS block, count(*) AS counted, max({column}) AS newest", f"WHERE {column} IS NOT NULL GROUP BY 1"
        )
        names = {
            self._name_block(begin, counted, newest): (counted, newest) for begin, counted, newest in counts.iter_rows()
        }
        self._counts = {block: counted for block, (counted, _) in names.items()}
        return [(f"{self._name}/{block}@{hash_parts(*names[block])}", block) for block in sorted(names)]

    def _name_block(self, begin: Any, counted: int, newest: Any) -> str:
        """Return the name of a block of numbers or of a day; raise `DataError` if the values have no block."""
        if isinstance(begin, int | float | Decimal) and math.isfinite(begin):
            low = int(begin) * _BLOCK
            return f"{low}-{low + _BLOCK}"
        if isinstance(begin, str | date):
            day = begin.date() if isinstance(begin, datetime) else begin
            return f"day {day}"
        raise DataError(
            f"source {self._name!r} cannot grow by {self._source.growing!r}: {counted} of its values are neither a "
            f"finite number nor a time, such as {newest}",
            _WHOLE_CURE,
        )

    def _report_nulls(self, column: str) -> None:
        """Log a warning about rows that are not read because they have no growing value."""
        nulls = int(self._select("count(*) AS counted", f"WHERE {column} IS NULL").item(0, 0))
        if nulls and nulls != self._reported_nulls:
            get_logger("data").warning(
                "source %r: the growing column %r is null in %d of its rows; they are not read until they have a "
                "value. To read all rows, remove `growing`",
                self._name,
                self._source.growing,
                nulls,
            )
        self._reported_nulls = nulls

    def _select(self, columns: str, condition: str) -> pl.DataFrame:
        try:
            rows = self._database.select(f"SELECT {columns} FROM {self._from} {condition}".strip())
            return to_storable(rows, f"source {self._name!r}")
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
        self.display_name = hide_url(self._url.render_as_string(hide_password=True))
        self.batch_path = hide_url(batch_path) or self.display_name

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
                if engine.dialect.name == "sqlite":  # which may be built without its mathematical functions
                    driver: Any = connection.connection.driver_connection
                    driver.create_function("floor", 1, _floor)
                return pl.read_database(text(query.replace(":", r"\:")), connection, infer_schema_length=None)
        finally:
            engine.dispose()

    def quote(self, name: str) -> str:
        return str(self._dialect.identifier_preparer.quote(name))


class DuckDbEngine:
    """DuckDB, on a database file or on the files in its query; relative paths start at the project's folder."""

    def __init__(self, path: str, folder: Path) -> None:
        self.display_name = self.batch_path = hide_url(path)
        self._path = path
        self._folder = folder

    def select(self, query: str) -> pl.DataFrame:
        try:
            import duckdb
            import pyarrow  # noqa: F401 - DuckDB returns its rows as PyArrow tables
        except ImportError as absent:
            raise MissingExtra(absent.name or "duckdb", "duckdb") from None
        memory = self._path == ":memory:"
        file = str(self._folder / self._path)
        with duckdb.connect(":memory:" if memory else file, read_only=not memory) as connection:
            connection.execute(f"SET file_search_path = '{str(self._folder).replace(chr(39), chr(39) * 2)}'")
            connection.execute("SET TimeZone = 'UTC'")
            return pl.DataFrame(connection.sql(query).to_arrow_table())

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


def _quotient(column: str) -> str:
    """Return the expression of the number of a value's block."""
    return f"floor({column} / {_BLOCK}.0)"


def _floor(value: float | None) -> float | None:
    return value if value is None or not math.isfinite(value) else float(math.floor(value))
