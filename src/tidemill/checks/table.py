"""Checks rows against a schema: rows that do not fit are schema skew, and stop the pipeline."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import polars as pl
from msgspec import to_builtins

from tidemill.clock import parse_duration
from tidemill.core.check import SchemaEvidence, Verdict
from tidemill.core.columns import KNOWN_AT, PREFIX, TIME, is_internal
from tidemill.core.schema import Column, Schema
from tidemill.core.source import Source
from tidemill.data.keys import to_row_keys
from tidemill.data.rows import convert_columns
from tidemill.data.storable import to_storable
from tidemill.data.types import CODE, column_type, find_conversion
from tidemill.errors import TooLarge, Unreadable, UnreadableNow

WHY = f"{PREFIX}why"
_CHANCE = 0.01
_SHOWN = 5
_SHOWN_ROWS = 3
_SHOWN_COLUMNS = 20
_SHOWN_DOMAIN = 10
_FEW = 1000
_NO_BOUNDS: Mapping[str, int] = {}


class TableFault(NamedTuple):
    """A fault of a table: `bad` marks its rows, None means all rows; `column` is "" for a fault of the whole batch."""

    column: str
    kind: str
    what: str
    rows: int = 0
    samples: tuple[Any, ...] = ()
    bad: pl.Series | None = None


def validate(
    frame: pl.DataFrame, schema: Schema, subject: str, source: Source | None = None, arrived: datetime | None = None
) -> Verdict:
    """Return the verdict of `check_table`, without the bad rows."""
    return check_table(frame, schema, subject, source, arrived)[0]


def check_table(
    frame: pl.DataFrame, schema: Schema, subject: str, source: Source | None = None, arrived: datetime | None = None
) -> tuple[Verdict, pl.DataFrame]:
    """Return a verdict on a table, `stop` with its anomalies or `proceed`; and the bad rows with the column `WHY`.

    The anomalies are missing and unexpected columns, wrong types, too many nulls, NaN and infinite numbers, values
    outside a range or a closed domain, duplicate keys, and too few rows; for rows with the columns of `add_times`, also
    unreadable times. Each anomaly has its count, sample values and sample rows.

    Parameters
    ----------
    source : names the columns of the event time and the known-at time.
    arrived : when the rows arrived; a source without a known-at column has no event times after that.

    Raises
    ------
    Unreadable
        if a column can be stored in no type without loss.
    """
    frame = to_storable(frame, subject)
    faults = find_faults(frame, schema, source, arrived)
    anomalies = [describe_fault(frame, schema, fault) for fault in faults]
    return judge_anomalies(subject, schema, frame.height, anomalies), mark_bad_rows(frame, faults)


def find_faults(
    frame: pl.DataFrame, schema: Schema, source: Source | None = None, arrived: datetime | None = None
) -> list[TableFault]:
    """Return the faults of a table whose columns can be stored."""
    wrong = _wrong_types(frame, schema.columns)
    return [
        *_columns(frame, schema, wrong),
        *_values(frame, schema, wrong),
        *_keys(frame, schema),
        *_times(frame, schema, wrong, source, arrived),
        *_size(frame, schema),
    ]


def judge_anomalies(subject: str, schema: Schema, rows: int, anomalies: list[dict[str, Any]]) -> Verdict:
    """Return the verdict on a table with these rows and anomalies."""
    reason = "fits its schema"
    if anomalies:
        first = anomalies[0]
        more = f" (and {len(anomalies) - 1} more)" if len(anomalies) > 1 else ""
        about = "it" if first["kind"] == "too few rows" else f"column {first['column']!r}"
        reason = f"{about} {first['what']}{more}"
    return Verdict(
        check="schema",
        subject=subject,
        outcome="fail" if anomalies else "pass",
        action="stop" if anomalies else "proceed",
        reason=reason,
        evidence=to_builtins(SchemaEvidence(rows=rows, schema_version=schema.version, anomalies=anomalies)),
    )


def unreadable_verdict(
    subject: str, version: int, error: Unreadable, bounds: Mapping[str, int] = _NO_BOUNDS
) -> Verdict:
    """Return the verdict on a batch that cannot be read as a table; `bounds` are those of one file of its source."""
    fault = TableFault("", "unreadable", f"{error.problem}; {error.cure}" if error.cure else error.problem)
    anomaly = describe_fault(pl.DataFrame(), Schema(source="", columns=()), fault)
    return Verdict(
        check="schema",
        subject=subject,
        outcome="fail",
        action="stop",
        reason=f"it cannot be read: {error.problem} (cure: {error.cure})",
        evidence=to_builtins(
            SchemaEvidence(
                schema_version=version,
                anomalies=[anomaly],
                bounds=dict(bounds) if isinstance(error, TooLarge) else {},
                temporary=isinstance(error, UnreadableNow),
            )
        ),
    )


def convert_to_schema(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Convert rows that fit their schema to its types, so that the batches of one source fit in one table.

    Raises
    ------
    DataError
        if a value does not fit.
    """
    dtypes = frame.schema
    declared = {column.name: column.type for column in schema.columns if column.name in dtypes}
    # A column of nulls, or a nested one without member types, is absent: the rows of the table are null there.
    unknown = [
        name for name, kind in declared.items() if kind == "empty" or (kind == "nested" and dtypes[name] == pl.Null)
    ]
    types = {name: kind for name, kind in declared.items() if name not in unknown}
    unknown += [name for name, dtype in dtypes.items() if name not in declared and dtype == pl.Null]
    others = [values for values in frame if values.name not in declared and values.name not in unknown]
    converted = convert_columns(frame, types, parse_text=True)
    converted |= {values.name: values for values in to_storable(pl.DataFrame(others), "the batch")}
    if not converted:
        return frame.drop(unknown)
    return pl.DataFrame([converted[name] for name in dtypes if name in converted])


def fits_type(values: pl.Series, column: Column) -> bool:
    """Return whether a column has the type of its schema, or converts to it without loss."""
    return not _wrong_types(values.to_frame(), [column])


def _wrong_types(frame: pl.DataFrame, columns: Iterable[Column]) -> dict[str, pl.Series | None]:
    """Return the columns that do not fit their type, each with its wrong rows; None for the whole column."""
    wrong: dict[str, pl.Series | None] = {}
    tests = {}
    present = set(frame.columns)
    for column in columns:
        if column.name not in present:
            continue
        how = find_conversion(column.type, frame[column.name], parse_text=True)
        if how is None:
            wrong[column.name] = None
        elif not how.total:
            values = pl.col(column.name)
            tests[column.name] = how.convert(values).is_null() & values.is_not_null()
    if tests:
        wrong |= {bad.name: bad for bad in frame.select(test.alias(name) for name, test in tests.items()) if bad.any()}
    return wrong


def _columns(frame: pl.DataFrame, schema: Schema, wrong: Mapping[str, pl.Series | None]) -> Iterator[TableFault]:
    present = set(frame.columns)
    for column in schema.columns:
        if column.name not in present:
            if column.required:
                other = next((name for name in frame.columns if name.casefold() == column.name.casefold()), None)
                what = f"is missing, but the table has {other!r}" if other is not None else "is missing"
                yield TableFault(column.name, "missing column", what)
        elif column.name in wrong:
            yield _wrong_type(frame[column.name], column, wrong[column.name])
    if schema.extra_columns == "stop":
        declared = {column.name for column in schema.columns}
        for name in frame.columns:
            if name not in declared and not is_internal(name):
                absent = [other for other in declared if other.casefold() == name.casefold() and other not in present]
                what = f"is not in the schema; did you mean {absent[0]!r}?" if absent else "is not in the schema"
                yield TableFault(name, "unexpected column", what, frame.height, _some(frame[name]))


def _wrong_type(values: pl.Series, column: Column, bad: pl.Series | None) -> TableFault:
    """Return the fault of a column: in text that partly converts, the other rows are bad; else the whole column is."""
    found = column_type(values.dtype)
    what = f"should be of type {column.type}, but is {values.dtype if found == column.type else found}"
    if column.type in ("integer", "number") and values.dtype == pl.String:
        codes = values.filter(values.str.contains(CODE))
        if len(codes):
            samples = _some(codes)
            shown = ", ".join(map(str, samples[:3]))
            what += f", with codes such as {shown}, which would lose their zeros as numbers"
            return TableFault(column.name, "wrong type", what, len(values), samples)
        if column.type == "integer":
            bad = values.cast(pl.Int64, strict=False).is_null() & values.is_not_null()
    if bad is None or not bad.any() or values.dtype != pl.String or bad.all():
        samples = _some(values)
        what += f", such as {samples[0]}" if samples and values.dtype == pl.String else ""
        return TableFault(column.name, "wrong type", what, len(values), samples)
    samples = _some(values.filter(bad))
    shown = ", ".join(map(str, samples[:3]))
    what = f"should be of type {column.type}, but {bad.sum()} of {len(values)} values are not, such as {shown}"
    return TableFault(column.name, "wrong type", what, int(bad.sum()), samples, bad)


def _values(frame: pl.DataFrame, schema: Schema, wrong: Mapping[str, pl.Series | None]) -> Iterator[TableFault]:
    types = frame.schema
    present = {column.name: column for column in schema.columns if column.name in types and column.name not in wrong}
    tests = {
        (name, kind): test for name, column in present.items() for kind, test in _tests(column, types[name]).items()
    }
    if not tests or not frame.height:
        return
    select = frame.select if frame.height > _FEW else frame.select_seq  # starting threads takes longer than few rows
    counts = select(test.sum().alias(str(index)) for index, test in enumerate(tests.values())).row(0)
    for (name, kind), test, bad in zip(tests, tests.values(), counts, strict=True):
        column = present[name]
        if not bad or (kind == "missing values" and bad <= find_most_missing(column.missing, bad, frame.height)):
            continue
        marked = frame.select(test.alias("bad"))["bad"]
        samples = () if kind == "missing values" else _some(frame[name].filter(marked))
        yield TableFault(name, kind, describe_values(kind, column, bad, frame.height, samples), bad, samples, marked)


def find_most_missing(share: float, bad: int, rows: int) -> float:
    """Return how many nulls are accepted: the schema's share of the rows, plus its random variation in a batch."""
    if bad <= share * rows:
        return bad
    from scipy.stats import binom

    return float(binom.isf(_CHANCE, rows, share))


@lru_cache(maxsize=4096)
def _tests(column: Column, kind: pl.DataType) -> dict[str, pl.Expr]:
    """Return, for each fault of a value, the expression that is true for faulty values."""
    values = pl.col(column.name)
    tests = {}
    words = [values.cast(pl.String)]
    if column.missing < 1:
        tests["missing values"] = values.is_null()
    if column.type in ("integer", "number"):
        exact = kind.is_integer()
        numbers = values if exact or kind.is_float() else values.cast(pl.Float64, strict=False)
        if column.finite and not exact:
            tests["not finite"] = numbers.is_finite().not_()
        if column.low is not None:
            tests["below range"] = (numbers < column.low) & (True if exact else numbers.is_finite())
        if column.high is not None:
            tests["above range"] = (numbers > column.high) & (True if exact else numbers.is_finite())
        words.append(numbers.cast(pl.Int64, strict=False).cast(pl.String))  # 2.0 equals 2
    if column.domain is not None:
        inside = words[0].is_in(column.domain)
        if len(words) > 1:
            inside = inside | (words[1].is_in(column.domain) & (numbers == numbers.round(0)))
        tests["outside domain"] = inside.not_()
    return {kind: test.fill_null(value=False) for kind, test in tests.items()}


def describe_values(kind: str, column: Column, bad: int, rows: int, samples: Sequence[Any]) -> str:
    """Return what is wrong with the values of a column."""
    shown = ", ".join(str(sample) for sample in samples[:3])
    if kind == "missing values":
        return f"is null in {bad} of {rows} rows (limit {column.missing:.1%})"
    if kind == "not finite":
        return f"has NaN or infinite values in {bad} of {rows} rows"
    if kind == "outside domain":
        domain = ", ".join((column.domain or ())[:_SHOWN_DOMAIN])
        more = ", …" if len(column.domain or ()) > _SHOWN_DOMAIN else ""
        return f"has {bad} of {rows} values outside its domain, such as {shown}; the domain is {domain}{more}"
    limit = f"below {column.low:g}" if kind == "below range" else f"above {column.high:g}"
    return f"has {bad} of {rows} values {limit}, such as {shown}"


def _keys(frame: pl.DataFrame, schema: Schema) -> Iterator[TableFault]:
    keys = list(schema.key)
    if not keys or not set(keys) <= set(frame.columns):
        return
    row_keys = to_row_keys(frame, keys)
    complete = row_keys.drop_nulls() if row_keys.null_count() else row_keys  # rows without a key are distinct
    if repeated := len(complete) - complete.n_unique():
        bad = row_keys.is_duplicated() & row_keys.is_not_null()
        samples = tuple("|".join(map(str, row)) for row in frame.select(keys).filter(bad).unique().head(_SHOWN).rows())
        yield TableFault(
            ", ".join(keys),
            "duplicate keys",
            f"has {repeated} duplicate key" + "s" * (repeated > 1),
            repeated,
            samples,
            bad,
        )


def _times(
    frame: pl.DataFrame,
    schema: Schema,
    wrong: Mapping[str, pl.Series | None],
    source: Source | None,
    arrived: datetime | None,
) -> Iterator[TableFault]:
    """Yield the faults of the event time and the known-at time."""
    if source is None or not source.time or TIME not in frame.columns:
        return
    for name, times in ((source.time, TIME), (source.known_at or source.time, KNOWN_AT)):
        if times == KNOWN_AT and name == source.time:
            continue
        column = schema.column(name)
        if name not in frame.columns:
            if column is None or not column.required:
                yield TableFault(
                    name, "missing column", "is missing: it is the time of an event, or when a row was known"
                )
            continue
        bad = frame[times].is_null() & frame[name].is_not_null()
        if bad.any() and name not in wrong:
            samples = _some(frame[name].filter(bad))
            shown = ", ".join(map(str, samples[:3]))
            what = f"has {bad.sum()} values that are not times, such as {shown}"
            yield TableFault(name, "unreadable time", what, int(bad.sum()), samples, bad)
    if arrived is not None and schema.ahead and not source.known_at:
        late = (frame[TIME] > arrived + parse_duration(schema.ahead)).fill_null(value=False)
        if late.any():
            samples = _some(frame[TIME].filter(late))
            times = "1 time" if late.sum() == 1 else f"{late.sum()} times"
            what = f"has {times} after the rows arrived ({arrived:%Y-%m-%d %H:%M}), such as {samples[0]}"
            yield TableFault(source.time, "time in the future", what, int(late.sum()), samples, late)


def _size(frame: pl.DataFrame, schema: Schema) -> Iterator[TableFault]:
    if frame.height < schema.minimum_rows:
        yield TableFault("", "too few rows", f"has {frame.height} rows (minimum {schema.minimum_rows})", frame.height)


def _some(values: pl.Series) -> tuple[Any, ...]:
    if values.dtype.is_nested():
        return tuple(values.drop_nulls().head(_SHOWN).to_list())
    return tuple(values.drop_nulls().unique(maintain_order=True).head(_SHOWN).to_list())


def describe_fault(frame: pl.DataFrame, schema: Schema, fault: TableFault) -> dict[str, Any]:
    """Return a fault as an anomaly of the evidence; a sample row has its row number and its values as text."""
    rows: list[dict[str, str]] = []
    if fault.rows:
        first = [*schema.key, *fault.column.split(", ")]
        columns = frame.columns
        few = dict.fromkeys((*first, *columns[: 2 * _SHOWN_COLUMNS]))  # of many: each of them may have a fault
        shown = [name for name in few if name in columns and not is_internal(name)][:_SHOWN_COLUMNS]
        numbers = range(frame.height) if fault.bad is None else fault.bad.arg_true().to_list()
        rows = [
            {"row" if "row" not in shown else f"{PREFIX}row": str(number)}
            | {name: str(value) for name, value in zip(shown, frame.select(shown).row(number), strict=True)}
            for number in numbers[:_SHOWN_ROWS]
        ]
    return {
        "column": fault.column,
        "kind": fault.kind,
        "what": fault.what,
        "rows": fault.rows,
        "samples": [str(sample) for sample in fault.samples],
        "sample_rows": rows,
    }


def mark_bad_rows(frame: pl.DataFrame, faults: list[TableFault]) -> pl.DataFrame:
    """Return the rows with faults, with the column `WHY`."""
    if not faults:
        return frame.clear()
    why = [
        pl.when(pl.lit(True) if fault.bad is None else fault.bad).then(pl.lit(f"{fault.column}: {fault.kind}"))
        for fault in faults
    ]
    marked = frame.with_columns(pl.concat_str(why, separator="; ", ignore_nulls=True).alias(WHY))
    return marked.filter(pl.col(WHY) != "")
