"""Reads tables from files: Parquet, CSV and JSON Lines."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from tidemill.core.columns import require_usable_names
from tidemill.data.timestamps import parse_days, parse_times
from tidemill.errors import DataError, Unreadable

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
    """Return the rows of a Parquet, CSV or JSON Lines file; with `empty`, a file without rows is accepted.

    CSV has no types: the columns in `texts` stay text. With None, columns with numbers that begin with a zero stay
    text, such as the postal code 00569.

    Raises
    ------
    DataError
        if the file is missing, without columns, not UTF-8 or not of its format.
    """
    if path.is_dir():
        raise Unreadable(f"{path} is a folder", "name the files in it, such as data/**/*.parquet")
    if path.is_symlink() and not path.exists():
        raise Unreadable(f"{path} is a link to a missing file", "repair the link, or remove it")
    if not path.is_file():
        raise DataError(f"there is no file {path}", "check the path")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path} is empty", "use a file with a header and rows")
    return parse_table(path, str(path), form, empty=empty, texts=texts)


def parse_table(
    source: Path | BytesIO, name: str, form: str = "", *, empty: bool = False, texts: tuple[str, ...] | None = None
) -> pl.DataFrame:
    """Return the rows of a table in a file or in memory, in the format `form`, or that of the suffix of `name`.

    Raises
    ------
    DataError
        if the content is not a table of that format, or has no rows and `empty` is false.
    """
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
            raise Unreadable(f"the format of {name} is unknown", "use .parquet, .csv or .jsonl")
    except OSError as error:
        raise _explain(source, Path(name), kind, error) from None
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        explained = _explain(source, Path(name), kind, error)
        raise Unreadable(explained.problem, explained.cure) from None
    if frame.is_empty() and not empty:
        raise DataError(f"{name} has no rows", "use a file with rows")
    return frame


def _parse_csv(source: Path | BytesIO, separator: str, texts: tuple[str, ...] | None) -> pl.DataFrame:
    content = source.getvalue() if isinstance(source, BytesIO) else source
    options: dict[str, Any] = {
        "separator": separator,
        "glob": False,
        "schema_overrides": {name.replace('"', '""'): pl.String for name in texts or ()},
    }
    try:
        frame = pl.read_csv(content, infer_schema_length=10_000, **options)
    except pl.exceptions.ComputeError:  # a later row has another type
        frame = pl.read_csv(content, infer_schema_length=None, **options)
    whole = [name for name, kind in frame.schema.items() if kind.is_integer()]
    if texts is None and whole:
        as_text = pl.scan_csv(content, separator=separator, infer_schema=False, glob=False).select(whole)
        has_zeros = as_text.select(pl.all().str.contains(r"^-?0\d").any()).collect().row(0, named=True)
        frame = frame.with_columns(
            as_text.select(name for name, has_zero in has_zeros.items() if has_zero).collect().get_columns()
        )
    # Polars does not unescape the names: a quote within quotes is doubled.
    return _with_times(frame.rename({name: name.replace('""', '"') for name in frame.columns if '""' in name}), texts)


def _with_times(frame: pl.DataFrame, texts: tuple[str, ...] | None) -> pl.DataFrame:
    """Convert text columns in which every value is an ISO 8601 time or date: JSON and CSV have no such types."""
    require_usable_names(frame.columns, "the table")  # a pattern would be converted as several columns
    converted = []
    for name, kind in frame.schema.items():
        first = frame[name].drop_nulls().head(1).to_list() if kind == pl.String and name not in (texts or ()) else []
        if not first or not _LIKE_A_TIME.match(first[0]):
            continue
        for read in (parse_days, parse_times):
            values = frame.select(read(pl.col(name)))[name]
            if values.null_count() == frame[name].null_count():
                converted.append(values)
                break
    return frame.with_columns(converted)


def _explain(source: Path | BytesIO, path: Path, kind: str, error: Exception) -> DataError:
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "utf-8" in message.lower() or "utf8" in message.lower():
        start = (source.getvalue() if isinstance(source, BytesIO) else source.read_bytes())[:2]
        encoding = "UTF-16" if start in (BOM_UTF16_LE, BOM_UTF16_BE) else "LATIN1"
        return DataError(f"{path} is not UTF-8", f"convert it: iconv -f {encoding} -t UTF-8 {path.name} > utf8.csv")
    if isinstance(error, pl.exceptions.NoDataError):
        return DataError(f"{path} is empty", "use a file with a header and rows")
    return DataError(
        f"{path} cannot be read as {kind}: {message}", "check that the file is complete and of that format"
    )
