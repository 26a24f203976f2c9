"""Judges rows against a schema: what cannot be is schema skew, and stops the pipeline."""

from collections.abc import Iterator
from datetime import datetime, time
from typing import Any, NamedTuple

import polars as pl

from tidemill.clock import span
from tidemill.core.check import Verdict
from tidemill.core.policy import Source
from tidemill.core.schema import Column, Schema
from tidemill.data.encoding import column_type
from tidemill.data.frame import KNOWN_AT, TIME
from tidemill.data.moments import MOMENT, dates, in_utc, times
from tidemill.errors import Unreadable

WHY = "_why"
_FITTING = {
    "boolean": {"boolean"},
    "integer": {"integer"},
    "number": {"number", "integer"},
    "text": {"text"},
    "time": {"time", "date"},
    "date": {"date"},
    "nested": {"nested"},
}
_WHOLE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
_LARGEST_WHOLE = 2**53  # of which a float tells one from the next
_CHANCE = 0.01
_SHOWN = 5
_SHOWN_ROWS = 3
_SHOWN_COLUMNS = 20


class Fault(NamedTuple):
    """One thing that is wrong: `bad` marks the rows, None all of them; `column` is "" where it is the whole batch."""

    column: str
    kind: str
    what: str
    rows: int = 0
    samples: tuple[Any, ...] = ()
    bad: pl.Series | None = None


def validate(
    frame: pl.DataFrame, schema: Schema, subject: str, source: Source | None = None, arrived: datetime | None = None
) -> Verdict:
    """The verdict of `judge`, without the bad rows."""
    return judge(frame, schema, subject, source, arrived)[0]


def judge(
    frame: pl.DataFrame, schema: Schema, subject: str, source: Source | None = None, arrived: datetime | None = None
) -> tuple[Verdict, pl.DataFrame]:
    """A verdict on a table, `stop` with its anomalies or `proceed`; and the bad rows, with `_why` each is bad.

    Found are missing and unexpected columns, wrong types, nulls where there may be none, NaN and infinite numbers,
    values outside a range or a closed domain, keys that stand twice, and too few rows; where the rows went through
    `in_time`, also times that cannot be read. Each comes with its count, sample values and sample rows.

    Parameters
    ----------
    source : names the columns of the event time and the known-at time.
    arrived : when the rows arrived; a source without a known-at column has no event times after that.
    """
    faults = [
        *_columns(frame, schema),
        *_values(frame, schema),
        *_keys(frame, schema),
        *_times(frame, schema, source, arrived),
        *_size(frame, schema),
    ]
    told = [_told(frame, schema, fault) for fault in faults]
    reason = "fits its schema"
    if faults:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        about = "it" if first.kind == "too few rows" else f"column {first.column!r}"
        reason = f"{about} {first.what}{more}"
    verdict = Verdict(
        check="schema",
        subject=subject,
        outcome="fail" if faults else "pass",
        action="stop" if faults else "proceed",
        reason=reason,
        evidence={"rows": frame.height, "schema_version": schema.version, "anomalies": told},
    )
    return verdict, _bad_rows(frame, faults)


def unreadable(subject: str, version: int, told: Unreadable) -> Verdict:
    """The verdict on a batch whose bytes are no table."""
    anomaly = _told(pl.DataFrame(), Schema(source="", columns=()), Fault("", "unreadable", told.problem))
    return Verdict(
        check="schema",
        subject=subject,
        outcome="fail",
        action="stop",
        reason=f"it cannot be read: {told.problem}",
        evidence={"rows": 0, "schema_version": version, "anomalies": [anomaly]},
    )


def conform(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Rows that fit their schema in the types that it means, so that batches of one source can stand in one table."""
    casts = []
    empty = []
    for name, kind in frame.schema.items():
        column = schema.column(name)
        if kind == pl.Null and column is not None and column.type == "nested":
            empty.append(name)  # of what, nobody can tell: in the table it is null
        elif kind == pl.Null:
            casts.append(pl.col(name).cast(_MEANT[column.type] if column else pl.String))
        elif column is not None and column.type == "number":
            casts.append(pl.col(name).cast(pl.Float64))
        elif column is not None and column.type == "integer" and not kind.is_integer():
            casts.append(pl.col(name).cast(pl.Int64))
        elif column is not None and column.type == "time" and kind == pl.String:
            casts.append(times(pl.col(name)))
        elif column is not None and column.type == "time" and kind == pl.Date:
            casts.append(in_utc(pl.col(name), kind))
        elif column is not None and column.type == "date" and isinstance(kind, pl.Datetime):
            casts.append(pl.col(name).dt.date())
        elif kind.is_unsigned_integer() or kind == pl.Int128:
            casts.append(pl.col(name).cast(pl.Int64, strict=column is not None))  # tables have none of these
        elif kind == pl.Duration:
            casts.append(pl.col(name).dt.to_string("iso"))
        elif column is not None and column.type == "date" and kind == pl.String:
            casts.append(dates(pl.col(name)))
        elif kind.is_nested():
            casts.append(pl.col(name).cast(_without_null(kind)))
        elif kind in (pl.Categorical, pl.Enum, pl.Time):
            casts.append(pl.col(name).cast(pl.String))
    return frame.with_columns(casts).drop(empty)


_MEANT: dict[str, Any] = {
    "boolean": pl.Boolean,
    "integer": pl.Int64,
    "number": pl.Float64,
    "text": pl.String,
    "time": MOMENT,
    "date": pl.Date,
}


def _without_null(kind: Any) -> Any:
    """A type of lists or records with text where nothing was seen, as in lists that are all empty."""
    if isinstance(kind, pl.List):
        return pl.List(_without_null(kind.inner))
    if isinstance(kind, pl.Struct):
        return pl.Struct({field.name: _without_null(field.dtype) for field in kind.fields})
    return pl.String() if kind == pl.Null else kind


def _columns(frame: pl.DataFrame, schema: Schema) -> Iterator[Fault]:
    for column in schema.columns:
        if column.name not in frame.columns:
            if column.required:
                yield Fault(column.name, "missing column", "is missing")
        elif not fits(frame[column.name], column):
            yield _wrong_type(frame[column.name], column)
    if schema.extra_columns == "stop":
        for name in frame.columns:
            if schema.column(name) is None and not name.startswith("_"):
                what = "is not in the schema"
                yield Fault(name, "unexpected column", what, frame.height, _some(frame[name]))


def _wrong_type(values: pl.Series, column: Column) -> Fault:
    """Where text could be read but for some rows, only these are bad."""
    what = f"should hold {column.type}, but holds {values.dtype}"
    bad = _unreadable(values, column)
    if bad is None or bad.all():
        return Fault(column.name, "wrong type", what, len(values), _some(values))
    samples = _some(values.filter(bad))
    shown = ", ".join(map(str, samples[:3]))
    what = f"should hold {column.type}, but has {bad.sum()} of {len(values)} values that are none, such as {shown}"
    return Fault(column.name, "wrong type", what, int(bad.sum()), samples, bad)


def _unreadable(values: pl.Series, column: Column) -> pl.Series | None:
    """Which texts cannot be read as the numbers, times or dates that a column means; None where none may stand."""
    if values.dtype != pl.String or column.type not in ("number", "time", "date"):
        return None
    text = pl.col(values.name)
    read = {"number": text.cast(pl.Float64, strict=False), "time": times(text), "date": dates(text)}[column.type]
    return values.to_frame().select((read.is_null() & text.is_not_null()).alias("bad"))["bad"]


def fits(values: pl.Series, column: Column) -> bool:
    """Whether a column's type is what its schema says, or can be read as that without a loss."""
    if values.null_count() == len(values):
        return True
    if column.type == "integer" and values.dtype.is_numeric() and values.dtype not in _WHOLE:
        numbers = values.drop_nulls().cast(pl.Float64)
        return bool(((numbers % 1 == 0) & (numbers.abs() <= _LARGEST_WHOLE)).all())
    if column_type(values.dtype) in _FITTING[column.type]:
        return True
    if column.type == "date" and isinstance(values.dtype, pl.Datetime):
        return bool((values.dt.time() == time()).all())  # as pandas keeps dates
    bad = _unreadable(values, column)
    return bad is not None and not bad.any()


def _values(frame: pl.DataFrame, schema: Schema) -> Iterator[Fault]:
    present = [c for c in schema.columns if c.name in frame.columns and fits(frame[c.name], c)]
    tests = {(column.name, kind): test for column in present for kind, test in _tests(column, frame).items()}
    if not tests or not frame.height:
        return
    counts = frame.select(test.sum().alias(str(place)) for place, test in enumerate(tests.values())).row(0)
    for (name, kind), test, bad in zip(tests, tests.values(), counts, strict=True):
        column = schema.column(name)
        assert column is not None
        if not bad or (kind == "missing values" and bad <= _most_missing(column.missing, bad, frame.height)):
            continue
        marked = frame.select(test.alias("bad"))["bad"]
        samples = () if kind == "missing values" else _some(frame[name].filter(marked))
        yield Fault(name, kind, _says(kind, column, bad, frame.height, samples), bad, samples, marked)


def _most_missing(share: float, bad: int, rows: int) -> float:
    """How many nulls are let in: the schema's share of the rows, or as many as chance gives a batch that has it."""
    if bad <= share * rows:
        return bad
    from scipy.stats import binom

    return float(binom.isf(_CHANCE, rows, share))


def _tests(column: Column, frame: pl.DataFrame) -> dict[str, pl.Expr]:
    """For each thing that can be wrong with a value, the expression that is true where it is."""
    values = pl.col(column.name)
    kind = frame.schema[column.name]
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
        words.append(numbers.cast(pl.Int64, strict=False).cast(pl.String))  # 2.0 is what 2 is
    if column.domain is not None:
        inside = words[0].is_in(column.domain)
        if len(words) > 1:
            inside = inside | (words[1].is_in(column.domain) & (numbers == numbers.round(0)))
        tests["outside domain"] = inside.not_()
    return {kind: test.fill_null(value=False) for kind, test in tests.items()}


def _says(kind: str, column: Column, bad: int, rows: int, samples: tuple[Any, ...]) -> str:
    shown = ", ".join(str(sample) for sample in samples[:3])
    if kind == "missing values":
        return f"is null in {bad} of {rows} rows (at most {column.missing:.1%} may be)"
    if kind == "not finite":
        return f"has {bad} of {rows} values that are no finite number"
    if kind == "outside domain":
        return f"has {bad} values outside its domain, such as {shown}"
    limit = f"below {column.low:g}" if kind == "below range" else f"above {column.high:g}"
    return f"has {bad} of {rows} values {limit}, such as {shown}"


def _keys(frame: pl.DataFrame, schema: Schema) -> Iterator[Fault]:
    keys = list(schema.key)
    if not keys or not set(keys) <= set(frame.columns):
        return
    has = frame.select(pl.all_horizontal(pl.col(key).is_not_null() for key in keys)).to_series()
    named = frame.filter(has)  # a row without its key is one of its own
    if twice := named.height - named.n_unique(subset=keys):
        bad = frame.select(keys).is_duplicated() & has
        samples = tuple("|".join(map(str, row)) for row in frame.select(keys).filter(bad).unique().head(_SHOWN).rows())
        yield Fault(", ".join(keys), "duplicate keys", f"repeats {twice} of its keys", twice, samples, bad)


def _times(frame: pl.DataFrame, schema: Schema, source: Source | None, arrived: datetime | None) -> Iterator[Fault]:
    """What is wrong with the times by which rows are placed."""
    if source is None or not source.time or TIME not in frame.columns:
        return
    for name, moments in ((source.time, TIME), (source.known_at or source.time, KNOWN_AT)):
        if moments == KNOWN_AT and name == source.time:
            continue
        column = schema.column(name)
        if name not in frame.columns:
            if column is None or not column.required:
                yield Fault(name, "missing column", "is missing: it says when a row happened or was known")
            continue
        bad = frame[moments].is_null() & frame[name].is_not_null()
        if bad.any() and (column is None or fits(frame[name], column)):
            samples = _some(frame[name].filter(bad))
            shown = ", ".join(map(str, samples[:3]))
            what = f"has {bad.sum()} values that are no time, such as {shown}"
            yield Fault(name, "unreadable time", what, int(bad.sum()), samples, bad)
    if arrived is not None and schema.ahead and not source.known_at:
        late = (frame[TIME] > arrived + span(schema.ahead)).fill_null(value=False)
        if late.any():
            samples = _some(frame[TIME].filter(late))
            what = f"has {late.sum()} times after the rows arrived ({arrived:%Y-%m-%d %H:%M}), such as {samples[0]}"
            yield Fault(source.time, "time in the future", what, int(late.sum()), samples, late)


def _size(frame: pl.DataFrame, schema: Schema) -> Iterator[Fault]:
    if frame.height < schema.minimum_rows:
        yield Fault("", "too few rows", f"has {frame.height} rows (at least {schema.minimum_rows})", frame.height)


def _some(values: pl.Series) -> tuple[Any, ...]:
    if values.dtype.is_nested():
        return tuple(values.drop_nulls().head(_SHOWN).to_list())
    return tuple(values.drop_nulls().unique(maintain_order=True).head(_SHOWN).to_list())


def _told(frame: pl.DataFrame, schema: Schema, fault: Fault) -> dict[str, Any]:
    """A fault as it stands in the evidence; each sample row has its place and what was in it, as text."""
    rows: list[dict[str, str]] = []
    if fault.rows:
        first = [*schema.key, *fault.column.split(", ")]
        shown = [name for name in dict.fromkeys((*first, *frame.columns)) if name in frame.columns and name[:1] != "_"]
        bad = frame.with_row_index("_row")
        bad = (bad if fault.bad is None else bad.filter(fault.bad)).head(_SHOWN_ROWS)
        rows = [
            {name.removeprefix("_"): str(value) for name, value in row.items()}
            for row in bad.select("_row", *shown[:_SHOWN_COLUMNS]).to_dicts()
        ]
    return {
        "column": fault.column,
        "kind": fault.kind,
        "what": fault.what,
        "rows": fault.rows,
        "samples": [str(sample) for sample in fault.samples],
        "sample_rows": rows,
    }


def _bad_rows(frame: pl.DataFrame, faults: list[Fault]) -> pl.DataFrame:
    if not faults:
        return frame.clear()
    why = [
        pl.when(pl.lit(True) if fault.bad is None else fault.bad).then(pl.lit(f"{fault.column}: {fault.kind}"))
        for fault in faults
    ]
    told = frame.with_columns(pl.concat_str(why, separator="; ", ignore_nulls=True).alias(WHY))
    return told.filter(pl.col(WHY) != "")
