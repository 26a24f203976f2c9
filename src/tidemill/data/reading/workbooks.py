"""Excel workbooks: the sheet with the table becomes typed columns."""

from datetime import date, datetime, time, timedelta
from io import BytesIO
from typing import Any

import polars as pl

from tidemill.data.reading.delimited import name_columns
from tidemill.data.reading.json_rows import to_plain_text
from tidemill.errors import Unreadable

_MIDNIGHT = time()
_LARGEST_EXACT = 2**53


def parse_workbook(content: bytes, name: str) -> pl.DataFrame:
    """Return the rows of the only sheet that is not empty; its first row with a value is the header.

    Rows without any value are no rows. Numbers without a fraction are integers; a column of mixed types is text.

    Raises
    ------
    Unreadable
        if the content is not a workbook, or no sheet or several sheets have a table.
    """
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_filelike(BytesIO(content))
        sheets = {sheet: _read_rows(workbook, sheet) for sheet in workbook.sheet_names}
    except (CalamineError, OSError, ValueError) as error:
        message = str(error).partition("\n")[0]
        raise Unreadable(
            f"{name} cannot be read as xlsx: {message}", "check that the file is complete and of that format"
        ) from None
    tables = {sheet: rows for sheet, rows in sheets.items() if rows}
    if not tables:
        raise Unreadable(f"{name} is empty", "use a file with a header and rows")
    if len(tables) > 1:
        raise Unreadable(
            f"{name} has {len(tables)} sheets with values: {', '.join(tables)}",
            "save the sheet with the table as a file of its own",
        )
    (rows,) = tables.values()
    header = [str(to_plain_text(value) or "").strip() if value != "" else "" for value in rows[0]]
    columns = [[row[position] if position < len(row) else None for row in rows[1:]] for position in range(len(header))]
    named = [
        _to_series(column, values)
        for column, given, values in zip(name_columns(header, name), header, columns, strict=True)
        if given or any(value not in (None, "") for value in values)
    ]
    return pl.DataFrame(named)


def _read_rows(workbook: Any, sheet: str) -> list[list[Any]]:
    rows = workbook.get_sheet_by_name(sheet).to_python()
    return [row for row in rows if any(value not in (None, "") for value in row)]


def _to_series(name: str, values: list[Any]) -> pl.Series:
    known = [None if value == "" else value for value in values]
    types = {type(value) for value in known} - {type(None)}
    if types and types <= {int, float}:
        return _to_numbers(name, known)
    if types and types <= {date, datetime}:
        times = [
            value if value is None or isinstance(value, datetime) else datetime.combine(value, _MIDNIGHT)
            for value in known
        ]
        column = pl.Series(name, times, dtype=pl.Datetime("us"))
        if all(value is None or value.time() == _MIDNIGHT for value in times):
            return column.cast(pl.Date)
        return column.dt.replace_time_zone("UTC")
    if len(types) == 1 and types <= {str, bool, time, timedelta}:
        return pl.Series(name, known)
    return pl.Series(name, [_to_text(value) for value in known], dtype=pl.String)


def _to_numbers(name: str, values: list[Any]) -> pl.Series:
    whole = all(value is None or (float(value).is_integer() and abs(value) < _LARGEST_EXACT) for value in values)
    if whole:
        return pl.Series(name, [None if value is None else int(value) for value in values], dtype=pl.Int64)
    return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)


def _to_text(value: Any) -> str | None:
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return to_plain_text(value)
