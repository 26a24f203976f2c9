"""Reads tables from files: Parquet, CSV and its relatives, JSON Lines, JSON and Excel workbooks."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import polars as pl

from tidemill.core.columns import require_usable_names
from tidemill.core.dialect import Dialect
from tidemill.core.schema import ColumnType
from tidemill.data.arrow_types import explain_parquet
from tidemill.data.reading.bounds import (
    Bounds,
    require_json_cells,
    require_shallow,
    require_text,
    require_workbook,
)
from tidemill.data.reading.content import find_compression, read_content, split_suffix
from tidemill.data.reading.delimited import name_columns, parse_delimited
from tidemill.data.reading.encodings import to_utf8
from tidemill.data.reading.json_rows import parse_json
from tidemill.data.reading.layout import find_default_separator
from tidemill.data.reading.parquet_bounds import require_parquet, require_parquet_file, require_parquet_memory
from tidemill.data.reading.values import type_columns, type_typed_columns
from tidemill.data.reading.workbook_child import parse_in_child
from tidemill.data.reading.workbooks import parse_workbook
from tidemill.data.storable import to_storable
from tidemill.errors import DataError, Unreadable

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv", ".txt"), "csv"),
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xls": "xlsx",
    ".ods": "xlsx",
}
_PLAIN = Dialect()


def read_table(
    path: Path,
    form: str = "",
    *,
    dialect: Dialect = _PLAIN,
    empty: bool = False,
    types: Mapping[str, ColumnType] | None = None,
    bounds: Bounds | None = None,
) -> pl.DataFrame:
    """Return the rows of a file; with `empty`, a file without rows is accepted.

    Parameters
    ----------
    form : the format; otherwise the suffix of the file shows it.
    dialect : how the values of a text file are written.
    types : the declared types of columns; without them, the values decide. Codes such as 00569 stay text.
    bounds : the most rows and memory of the file, which is not read beyond them.

    Raises
    ------
    DataError
        if the file is missing, without columns, not of its format or not of the dialect.
    """
    require_file(path)
    return parse_table(path, str(path), form, dialect=dialect, empty=empty, types=types, bounds=bounds)


def require_file(path: Path) -> None:
    """Raise `DataError` unless the path is a file with bytes."""
    if (path / "_delta_log").is_dir():
        raise Unreadable(
            f"{path} is a Delta table, whose files may have rows that were deleted",
            'start with a copy: python -c "import polars; polars.read_delta('
            f"'{path}').write_parquet('rows.parquet')\"; then set path of the source in tidemill.toml to the folder",
        )
    if path.is_dir():
        raise Unreadable(f"{path} is a folder", "name the files in it, such as data/**/*.parquet")
    if path.is_symlink() and not path.exists():
        raise Unreadable(f"{path} is a link to a missing file", "repair the link, or remove it")
    if not path.is_file():
        if path.exists():
            raise Unreadable(f"{path} is no regular file, but a pipe, a socket or a device", "use a regular file")
        raise DataError(f"there is no file {path}", "check the path")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path} is empty", "use a file with a header and rows")


def find_format(name: str, form: str = "") -> str:
    """Return the format of a file: `form`, or that of its suffix; raise `Unreadable` if it is unknown."""
    kind = form or _FORMATS.get(split_suffix(name), "")
    if not kind:
        raise Unreadable(f"the format of {name} is unknown", "use .parquet, .csv, .jsonl, .json or .xlsx")
    return kind


def parse_table(
    source: Path | BytesIO,
    name: str,
    form: str = "",
    *,
    dialect: Dialect = _PLAIN,
    empty: bool = False,
    types: Mapping[str, ColumnType] | None = None,
    bounds: Bounds | None = None,
) -> pl.DataFrame:
    """Return the rows of a table in a file or in memory, in the format `form`, or that of the suffix of `name`.

    Raises
    ------
    DataError
        if the content is not a table of that format and dialect, or has no rows and `empty` is false.
    """
    kind = find_format(name, form)
    try:
        if kind == "csv":
            content = to_utf8(read_content(source, name, bounds), dialect.encoding, name)
            if bounds is not None:
                require_text(len(content), content.count(b"\n"), bounds, name)
            separator = dialect.separator or find_default_separator(split_suffix(name))
            frame = parse_delimited(content, separator, name, dialect, bounds=bounds)
        else:
            frame = read_typed(source, name, kind, dialect, bounds)
        require_usable_names(frame.columns, name)
        if kind == "csv":
            frame = type_columns(frame, dialect, types)
        else:
            frame = type_typed_columns(frame, dialect, types, infer=kind != "parquet")
    except OSError as error:
        raise _explain(name, kind, error) from None
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        explained = _explain(name, kind, error)
        raise Unreadable(explained.problem, explained.cure) from None
    except pl.exceptions.PanicException as error:
        raise explain_panic(name, error) from None
    if frame.is_empty() and not empty:
        raise DataError(f"{name} has no rows", "use a file with rows")
    return frame


def explain_panic(name: str, error: BaseException) -> Unreadable:
    """Return the error for a file whose values make Polars fail; a panic is no `Exception`."""
    return Unreadable(
        f"{name} cannot be read: Polars failed on its values ({str(error).partition(chr(10))[0]})",
        "save it as Parquet, with a type for each column, and use that file",
    )


def read_typed(
    source: Path | BytesIO, name: str, kind: str, dialect: Dialect, bounds: Bounds | None = None
) -> pl.DataFrame:
    """Return the rows of a format whose values have types."""
    if kind == "parquet":
        source = _check_parquet(source, bounds, name)
        try:
            frame = pl.read_parquet(source, glob=False)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise explain_parquet(source, name, error) from None
        name_columns(frame.columns, name)
        return to_storable(frame, name)
    content = read_content(source, name, bounds)
    if kind == "xlsx":
        if bounds is not None:
            require_workbook(content, bounds, name)
            return parse_in_child(content, name, bounds)
        return parse_workbook(content, name)
    content = to_utf8(content, dialect.encoding, name)
    require_shallow(content, name)
    if bounds is not None:
        require_text(len(content), content.count(b"\n") if kind == "jsonl" else 0, bounds, name)
        require_json_cells(content, content.count(b"{") if kind == "json" else content.count(b"\n") + 1, bounds, name)
    return parse_json(content, name, lines=kind == "jsonl")


def _check_parquet(source: Path | BytesIO, bounds: Bounds | None, name: str) -> Path | BytesIO:
    """Return the bytes of a file within the bounds: a mapped file that shrinks meanwhile would end the process.

    Without bounds, a file of any size is mapped.
    """
    if isinstance(source, Path) and bounds is not None:
        size = source.stat().st_size
        if size > bounds.memory_mb * 1_000_000:
            raise bounds.explain_memory(name, size, f"has {size:,} bytes")
        source = BytesIO(source.read_bytes())
    if isinstance(source, Path):
        footer = require_parquet_file(source, bounds, name)
    else:
        footer = require_parquet(source.getbuffer(), bounds, name)
    require_parquet_memory(footer, bounds, name)
    return source


def is_compressed(path: Path) -> bool:
    """Return whether the first bytes of a file are those of a compression."""
    with path.open("rb") as file:
        return bool(find_compression(file.read(8)))


def _explain(name: str, kind: str, error: Exception) -> DataError:
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, pl.exceptions.NoDataError):
        return DataError(f"{name} is empty", "use a file with a header and rows")
    return DataError(
        f"{name} cannot be read as {kind}: {message}", "check that the file is complete and of that format"
    )
