"""Reads tables and brings them into one form: Polars, UTC, event time and known-at time beside the columns."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from tidemill.clock import span
from tidemill.core.policy import Source
from tidemill.data.moments import MOMENT, dates, in_utc, times
from tidemill.errors import DataError, Unreadable

TIME = "_time"
KNOWN_AT = "_known_at"
ARRIVED = "_arrived"
_LIKE_A_TIME = re.compile(r"^\d{4}[-/]\d\d[-/]\d\d")
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def read_table(
    path: Path, form: str = "", *, empty: bool = False, texts: tuple[str, ...] | None = None
) -> pl.DataFrame:
    """The rows of a Parquet, CSV or JSON Lines file; `empty` says whether it may have none.

    In CSV, which has no types, the columns of `texts` stay as they are written; None leaves so whole numbers that
    begin with a zero, such as the postal code 00569.

    Raises
    ------
    DataError
        if it is missing, without columns, not UTF-8 or not of its format.
    """
    if path.is_dir():
        raise Unreadable(f"{path} is a folder", "name the files in it, such as data/**/*.parquet")
    if path.is_symlink() and not path.exists():
        raise Unreadable(f"{path} is a link to nothing", "mend the link, or remove it")
    if not path.is_file():
        raise DataError(f"there is no file {path}", "check the path")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path} is empty", "give a file with a header and rows")
    return parse_table(path, str(path), form, empty=empty, texts=texts)


def parse_table(
    source: Path | BytesIO, name: str, form: str = "", *, empty: bool = False, texts: tuple[str, ...] | None = None
) -> pl.DataFrame:
    """The rows of a table in a file or in memory; `name` tells its format where `form` does not. Raises `DataError`."""
    suffix = Path(name).suffix.lower()
    kind = form or _FORMATS.get(suffix, "")
    try:
        if kind == "parquet":
            frame = pl.read_parquet(source, glob=False)
        elif kind == "csv":
            frame = _parse_csv(source, "\t" if suffix == ".tsv" else ",", texts)
        elif kind == "jsonl":
            frame = _with_times(pl.read_ndjson(source, infer_schema_length=None), texts)  # names may stand far down
        else:
            raise Unreadable(f"the format of {name} is not known", "use .parquet, .csv or .jsonl")
    except OSError as away:
        raise _explain(source, Path(name), kind, away) from None
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as wrong:
        told = _explain(source, Path(name), kind, wrong)
        raise Unreadable(told.problem, told.cure) from None
    if frame.is_empty() and not empty:
        raise DataError(f"{name} has no rows", "give a file with rows")
    return frame


def _parse_csv(source: Path | BytesIO, separator: str, texts: tuple[str, ...] | None) -> pl.DataFrame:
    content = source.getvalue() if isinstance(source, BytesIO) else source
    asked: dict[str, Any] = {
        "separator": separator,
        "glob": False,
        "schema_overrides": {name.replace('"', '""'): pl.String for name in texts or ()},
    }
    try:
        frame = pl.read_csv(content, infer_schema_length=10_000, **asked)
    except pl.exceptions.ComputeError:  # another type far down
        frame = pl.read_csv(content, infer_schema_length=None, **asked)
    whole = [name for name, kind in frame.schema.items() if kind.is_integer()]
    if texts is None and whole:
        written = pl.scan_csv(content, separator=separator, infer_schema=False, glob=False).select(whole)
        codes = written.select(pl.all().str.contains(r"^-?0\d").any()).collect().row(0, named=True)
        frame = frame.with_columns(
            written.select(name for name, found in codes.items() if found).collect().get_columns()
        )
    # The names come as they are written: a quote within quotes stands there twice.
    return _with_times(frame.rename({name: name.replace('""', '"') for name in frame.columns if '""' in name}), texts)


def _with_times(frame: pl.DataFrame, texts: tuple[str, ...] | None) -> pl.DataFrame:
    """JSON and CSV have no times: text that all is ISO 8601 is one."""
    found = []
    for name, kind in frame.schema.items():
        first = frame[name].drop_nulls().head(1).to_list() if kind == pl.String and name not in (texts or ()) else []
        if not first or not _LIKE_A_TIME.match(first[0]):
            continue
        for read in (dates, times):
            values = frame.select(read(pl.col(name)))[name]
            if values.null_count() == frame[name].null_count():
                found.append(values)
                break
    return frame.with_columns(found)


def _explain(source: Path | BytesIO, path: Path, kind: str, wrong: Exception) -> DataError:
    said = str(wrong).splitlines()[0] if str(wrong) else type(wrong).__name__
    if "utf-8" in said.lower() or "utf8" in said.lower():
        start = (source.getvalue() if isinstance(source, BytesIO) else source.read_bytes())[:2]
        found = "UTF-16" if start in (BOM_UTF16_LE, BOM_UTF16_BE) else "LATIN1"
        return DataError(f"{path} is not UTF-8", f"convert it: iconv -f {found} -t UTF-8 {path.name} > utf8.csv")
    if isinstance(wrong, pl.exceptions.NoDataError):
        return DataError(f"{path} is empty", "give a file with a header and rows")
    return DataError(f"{path} cannot be read as {kind}: {said}", "check that the file is whole and of that format")


def in_time(
    frame: pl.DataFrame, source: Source, name: str, arrived: datetime, *, lenient: bool = False
) -> pl.DataFrame:
    """Add `_time` and `_known_at` (UTC): from the source's columns, or the moment at which the rows arrived.

    A time without a zone is taken as UTC. What is no time is null where the reading is `lenient`, so that a check can
    tell of it; otherwise it raises `DataError`.
    """
    read = as_utc_or_null if lenient else as_utc
    arrival = pl.lit(arrived).cast(MOMENT)
    time = read(frame, source.time, name) if source.time else arrival
    if source.known_at:
        known = read(frame, source.known_at, name)
    elif source.time:
        known = time + span(source.delay)
    else:
        known = arrival
    return frame.with_columns(time.alias(TIME), known.alias(KNOWN_AT))


def as_utc(frame: pl.DataFrame, column: str, name: str) -> pl.Expr:
    """A column as UTC instants.

    Raises
    ------
    DataError
        if it is not there, or does not hold times.
    """
    if column not in frame.columns:
        raise DataError(f"source {name!r} has no column {column!r}", f"its columns: {', '.join(frame.columns)}")
    kind = frame.schema[column]
    values = pl.col(column)
    if kind == pl.String:
        if wrong := frame.filter(times(values).is_null() & values.is_not_null())[column].head(1).to_list():
            raise DataError(
                f"column {column!r} of source {name!r} holds text that is no time of ISO 8601, such as {wrong[0]!r}",
                "write times as 2013-01-31T12:00:00Z",
            )
        return times(values)
    if isinstance(kind, pl.Date | pl.Datetime):
        return in_utc(values, kind)
    raise DataError(f"column {column!r} of source {name!r} is {kind}, not a time", "name a column of dates or times")


def as_utc_or_null(frame: pl.DataFrame, column: str, name: str) -> pl.Expr:
    """A column as UTC instants, null where it holds something else, or is not there."""
    try:
        return as_utc(frame, column, name)
    except DataError:
        if frame.schema.get(column) == pl.String:
            return times(pl.col(column))
        return pl.lit(None, MOMENT)


def as_classes(values: pl.Series) -> pl.Series:
    """Labels as class names: `true`/`false`, whole numbers without a point, text as it is; nulls stay.

    >>> as_classes(pl.Series([1.0, 0.0, None])).to_list()
    ['1', '0', None]
    """
    if values.dtype.is_float() and bool((values.drop_nulls() == values.drop_nulls().round()).all()):
        values = values.cast(pl.Int64, strict=False)
    return values.cast(pl.String)


def key_text(values: pl.Series) -> pl.Series:
    """A key as text; 7.0, from a column that had gaps or halves once, names what 7 names.

    >>> key_text(pl.Series([7.0, 7.5, None])).to_list()
    ['7', '7.5', None]
    """
    if not values.dtype.is_float():
        return values.cast(pl.String)
    whole = values.cast(pl.Int64, strict=False)
    return values.cast(pl.String).zip_with((values != whole).fill_null(value=True), whole.cast(pl.String))


def row_keys(frame: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """The key of each row, as the journal names it: its key columns as text, joined by `|`; null where one is null."""
    texts = [key_text(frame[name]) for name in names]
    return texts[0] if len(texts) == 1 else pl.select(pl.concat_str(texts, separator="|").alias("key")).to_series()


def from_rows(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A frame from rows as JSON gives them; a column absent from a row is null there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame({name: pl.Series(name, [row.get(name) for row in rows], strict=False) for name in names})
