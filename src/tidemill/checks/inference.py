"""Infers schemas from rows, and widens a schema just enough to accept other rows."""

from datetime import datetime

import polars as pl
from msgspec.structs import replace

from tidemill.checks.table import fits_type, validate
from tidemill.core.check import SchemaEvidence
from tidemill.core.columns import is_internal
from tidemill.core.schema import Column, Schema
from tidemill.core.source import Source
from tidemill.data.storable import to_storable
from tidemill.data.types import column_type
from tidemill.errors import DataError

# The largest share of nulls in a later batch of a column that had none.
TOLERATED_NULLS = 0.05
_ENOUGH = 500
_FEW = 20
# Values with an end have at least half as many values near it as evenly spread ones: a tail has fewer.
_EDGE = 0.1
_FULL_EDGE = _EDGE / 2


def infer_schema(
    frame: pl.DataFrame,
    source: str,
    key: tuple[str, ...] = (),
    *,
    times: tuple[str, ...] = (),
    later: tuple[str, ...] = (),
) -> Schema:
    """Return a schema that these rows fit, wide enough for later rows.

    A range extends at least twice the observed span beyond both ends, farther for long tails or few values, but not
    below 0 where 0 is the natural end of the values. Whole numbers that count the rows, and keys, have no upper limit.
    Text has an open vocabulary. A column without nulls may have a few, except the event time and the known-at time; a
    column without NaN and infinite numbers may have none.

    Parameters
    ----------
    times : the event time and the known-at time: their type is time if all of their text is a time.
    later : columns that are unknown when rows arrive: they may be null in every row.

    Raises
    ------
    DataError
        if a key column is missing.
    """
    if absent := [name for name in key if name not in frame.columns]:
        raise DataError(
            f"source {source!r} has no key column {absent[0]!r}", f"its columns: {', '.join(frame.columns)}"
        )
    columns = [_infer_column(frame[name]) for name in frame.columns if not is_internal(name)]
    complete = frame.drop_nulls(list(key)) if key else frame  # rows without a key are distinct
    unique = bool(key) and complete.n_unique(subset=list(key)) == complete.height
    columns = [_apply_role(column, frame[column.name], key=key, times=times, later=later) for column in columns]
    return Schema(source=source, columns=tuple(columns), key=key if unique else ())


def _apply_role(
    column: Column, values: pl.Series, *, key: tuple[str, ...], times: tuple[str, ...], later: tuple[str, ...]
) -> Column:
    """Return a column with the limits of its role in the source."""
    if column.name in times and column.type == "text" and fits_type(values, as_time := replace(column, type="time")):
        column = as_time
    if column.name in key:
        column = replace(column, high=None)
    if column.name in times and not values.null_count() and column.type != "empty":
        column = replace(column, missing=0.0)  # a row needs its time
    return replace(column, missing=1.0) if column.name in later else column


def type_empty_columns(schema: Schema, frame: pl.DataFrame, source: Source) -> Schema:
    """Return a schema in which the columns that had no values so far have the type of their values in these rows."""
    times = tuple(name for name in (source.time, source.known_at) if name)
    columns = []
    for column in schema.columns:
        typed = column
        if column.type == "empty" and column.name in frame.columns and frame[column.name].null_count() < frame.height:
            values = frame[column.name]
            typed = _apply_role(_infer_column(values), values, key=schema.key, times=times, later=source.later)
            typed = replace(typed, missing=1.0, required=column.required, about=column.about)
        columns.append(typed)
    return replace(schema, columns=tuple(columns))


def _infer_column(values: pl.Series) -> Column:
    values = to_storable(values.to_frame(), "the table").to_series()
    kind = column_type(values.dtype)
    if values.null_count() == len(values):
        return Column(name=values.name, type="empty", required=False)
    nulls = values.null_count() / max(len(values), 1)
    missing = 1.0 if nulls > 0.5 else round(min(1.0, 2 * nulls + TOLERATED_NULLS), 3)
    if kind not in ("integer", "number"):
        return Column(name=values.name, type=kind, missing=missing)
    # In one piece: the mean of a column in several pieces, as JSON Lines are read, has another last digit.
    numbers = values.cast(pl.Float64).drop_nulls().rechunk()
    kept = numbers.filter(numbers.is_finite()).rechunk()
    finite = len(kept) == len(numbers)
    if kept.is_empty():
        return Column(name=values.name, type=kind, missing=missing, finite=finite)
    low, high = _range(kept, whole=kind == "integer")
    counts = kind == "integer" and _counts_rows(values)
    return Column(name=values.name, type=kind, missing=missing, low=low, high=None if counts else high, finite=finite)


def _range(numbers: pl.Series, *, whole: bool) -> tuple[float, float]:
    """Return the range of later values: the longer a tail is, in mean deviations, the farther its limit."""
    least, most = _bounds(numbers)
    span = max(most - least, abs(most), 1.0)
    few = max(1.0, (_ENOUGH / len(numbers)) ** 0.5)
    middle = float(numbers.median())  # type: ignore[arg-type]  # not empty, so a number
    apart = float((numbers - middle).abs().mean()) or span  # type: ignore[arg-type]
    below, above = (span * few * max(2.0, abs(edge - middle) / (2 * apart)) for edge in (least, most))
    low = max(0.0, least - below) if _ends_at_zero(numbers, least, most, whole=whole) else least - below
    return low, most + above


def _ends_at_zero(numbers: pl.Series, least: float, most: float, *, whole: bool) -> bool:
    """Return whether 0 is the natural end of these values, as it is of distances, counts, shares and amounts.

    Values that end there come close to it, and many of them do. A temperature that was never below 0 so far does not
    end at 0: it was not close to it, or only a thin tail came close. Whole numbers that begin at 0 or 1 are counts.
    """
    if least < 0:
        return False
    if whole and least <= 1:
        return True
    near = _EDGE * (most - least)
    if least > near:
        return False
    at_the_edge = int((numbers <= least + near).sum()) - 1
    return at_the_edge >= _FULL_EDGE * len(numbers)


def _counts_rows(values: pl.Series) -> bool:
    """Return whether whole numbers are those of a counter: unique and dense, such as the ids of a database."""
    known = values.drop_nulls()
    if len(known) < _FEW or known.n_unique() < len(known):
        return False
    least, most = _bounds(known)
    return most - least < 2 * len(known)


def _bounds(numbers: pl.Series) -> tuple[float, float]:
    return float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]  # not empty, so numbers


def widen_schema(
    schema: Schema, frame: pl.DataFrame, source: Source | None = None, arrived: datetime | None = None
) -> Schema:
    """Return the next version of a schema, changed only where these rows do not fit it.

    Raises
    ------
    DataError
        if no schema accepts the rows: they have event times that cannot be read.
    """
    anomalies = validate(frame, schema, schema.source, source, arrived).read(SchemaEvidence).anomalies
    faults = {(anomaly["column"], anomaly["kind"]) for anomaly in anomalies}
    columns = [
        _widen_column(column, frame, {kind for name, kind in faults if name == column.name})
        for column in schema.columns
    ]
    columns += [_infer_column(frame[name]) for name, kind in sorted(faults) if kind == "unexpected column"]
    kinds = {kind for _, kind in faults}
    wider = replace(
        schema,
        columns=tuple(columns),
        key=() if "duplicate keys" in kinds else schema.key,
        minimum_rows=frame.height if "too few rows" in kinds else schema.minimum_rows,
        ahead="" if "time in the future" in kinds else schema.ahead,
        version=schema.version + 1,
    )
    if remaining := validate(frame, wider, schema.source, source, arrived).read(SchemaEvidence).anomalies:
        raise DataError(
            f"no schema of {schema.source!r} accepts these rows: {remaining[0]['column']!r} {remaining[0]['what']}",
            "correct the rows, or set another column of times in tidemill.toml",
        )
    return wider


def _widen_column(column: Column, frame: pl.DataFrame, kinds: set[str]) -> Column:
    if "missing column" in kinds:
        return replace(column, required=False)
    if "wrong type" in kinds:
        return _retyped(column, frame[column.name])
    values = to_storable(frame.select(column.name), "the table").to_series() if column.name in frame.columns else None
    if values is None or not kinds:
        return column
    if "missing values" in kinds:
        column = replace(column, missing=values.null_count() / frame.height)
    if "not finite" in kinds:
        column = replace(column, finite=False)
    if "outside domain" in kinds and column.domain is not None:
        seen = values.cast(pl.String).drop_nulls().unique().to_list()
        column = replace(column, domain=tuple(sorted({*column.domain, *seen})))
    if kinds & {"below range", "above range"}:
        numbers = values.cast(pl.Float64).drop_nulls()
        column = _spanning(column, *_bounds(numbers.filter(numbers.is_finite())))
    return column


def _retyped(column: Column, values: pl.Series) -> Column:
    """Return the column with the type of these values; for integers and numbers, with a range for both."""
    inferred = _infer_column(values)
    if {inferred.type, column.type} == {"integer", "number"} and inferred.low is not None and inferred.high is not None:
        finite = inferred.finite and column.finite
        return replace(_spanning(column, inferred.low, inferred.high), type="number", finite=finite, domain=None)
    # The values may also convert to the type of the schema.
    return replace(column, missing=inferred.missing) if fits_type(values, column) else inferred


def _spanning(column: Column, least: float, most: float) -> Column:
    return replace(
        column,
        low=min(least, column.low) if column.low is not None else None,
        high=max(most, column.high) if column.high is not None else None,
    )
