"""Source: the settings of a source, `[sources.NAME]` of `tidemill.toml`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tidemill.clock import DurationText
from tidemill.core.dialect import Dialect


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source of rows, with the times at which each row happened and became known.

    Attributes
    ----------
    path
        A file, a pattern of files, a folder with a Delta table, or a URL of an object store (`s3://…`) or a
        database (`postgresql+psycopg://…`). `${NAME}` is replaced by a [secret](../howto/access.md#secrets). With a
        `query`, a path that is not a URL is opened by DuckDB (`":memory:"` reads files).
    time
        The column with the event time. Without it, the event time is the time at which the file was written; a
        feature view's source without it is a register, whose values apply at any time.
    known_at
        The column with the time at which the row became known.
    delay
        How long after `time` a row becomes known, if there is no `known_at`.
    key
        The columns that identify a row: a later row with the same key corrects the earlier one. Without a key, each
        row is a row of its own, even if it equals another.
    schema
        The file with the schema of the source.
    later
        Columns that are not known yet at the event time. The requests of a backtest do not have them.
    delivery
        The length of the batches in which a backtest delivers the history; the default is one day.
    format
        The format of the files, if their names do not show it.
    separator
        The character between two values of a text file; `""` is a tab for `.tsv` and `.tab`, `|` for `.psv`, else a
        comma.
    encoding
        The encoding of text files, such as `cp1252` or `cp949`; `""` is UTF-8, or UTF-16 with a byte order mark.
    decimal
        The decimal separator of text files.
    thousands
        The character between groups of three digits in text files; `""` is none.
    nulls
        Texts that are null in every column except `texts`, besides those that are
        [always null](../howto/own-table.md#nulls).
    texts
        Columns of text files to read as text, character by character: no number, no time, and only the empty text is
        null.
    date_formats
        The format of each column with dates or times that are not ISO 8601, such as `{ sold = "%d.%m.%Y" }`, or
        `unix_seconds`, `unix_milliseconds`, `unix_microseconds` or `unix_nanoseconds` for numbers.
    units
        The unit of each column of text files whose numbers have one, such as `{ price = "$", rate = "%" }`; `()` is for
        negative numbers in parentheses. See [units](../howto/own-table.md#units).
    skip_lines
        The number of lines of text files before the header.
    header
        The names of the columns of text files that have no header.
    trim
        Whether spaces around the names and values of text files, as after a separator, are removed.
    kind
        What the path is, if its form does not show it.
    table
        The table of the database.
    query
        The query to run instead of reading a table.
    max_rows
        The most rows of one file. A file with more is stopped before it is read.
    max_memory_mb
        The most memory that the rows of one file may need at once, as estimated before it is read: a text needs six
        times its size without compression, and a value of Parquet 32 bytes. A larger file of CSV, JSON Lines or Parquet
        is read in parts; one of another format is stopped.
    growing
        A column whose values grow with new rows, so that an ingestion reads only new blocks.
    """

    path: str
    time: str | None = None
    known_at: str | None = None
    delay: DurationText = "0s"
    key: tuple[str, ...] = ()
    schema: str = ""
    later: tuple[str, ...] = ()
    delivery: DurationText | None = None
    format: Literal["parquet", "csv", "jsonl", "json", "xlsx", ""] = ""
    separator: str = ""
    encoding: str = ""
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    nulls: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    date_formats: dict[str, str] = {}
    units: dict[str, str] = {}
    skip_lines: int = 0
    header: tuple[str, ...] = ()
    trim: bool = False
    kind: Literal["files", "delta", "sql", "duckdb", ""] = ""
    table: str = ""
    query: str = ""
    growing: str = ""
    max_rows: Annotated[int, Meta(ge=1)] = 20_000_000
    max_memory_mb: Annotated[int, Meta(ge=1)] = 4_000

    @property
    def meaning(self) -> tuple[object, ...]:
        """Return the settings that define the meaning of the rows, without their location."""
        return (self.time, self.known_at, self.delay, self.key, self.later, *self.dialect.identity)

    @property
    def bounds(self) -> dict[str, int]:
        """Return the bounds of one file."""
        return {"max_rows": self.max_rows, "max_memory_mb": self.max_memory_mb}

    @property
    def dialect(self) -> Dialect:
        """Return how the values of its text files are written."""
        return Dialect(**{name: getattr(self, name) for name in Dialect.__struct_fields__})
