"""Judges rows against a schema: what cannot be is schema skew, and stops the pipeline."""

from typing import Any

import polars as pl
from msgspec.structs import replace

from tidemill.core.check import Verdict
from tidemill.core.schema import Column, Schema
from tidemill.data.encoding import column_type
from tidemill.data.frame import TIME
from tidemill.errors import DataError

_FITTING = {
    "boolean": {"boolean"},
    "integer": {"integer"},
    "number": {"number", "integer"},
    "text": {"text"},
    "time": {"time"},
    "date": {"date"},
}
_SHOWN = 5


def validate(frame: pl.DataFrame, schema: Schema, subject: str) -> Verdict:
    """A verdict on a table: `stop` with the anomalies, their counts and sample values, or `proceed`.

    Found are missing and unexpected columns, wrong types, nulls where there may be none, values outside a range
    or a closed domain, and keys that stand twice.
    """
    anomalies = [*_columns(frame, schema), *_values(frame, schema), *_keys(frame, schema)]
    evidence: dict[str, Any] = {"rows": frame.height, "schema_version": schema.version, "anomalies": anomalies}
    if not anomalies:
        return Verdict(
            check="schema",
            subject=subject,
            outcome="pass",
            action="proceed",
            reason="fits its schema",
            evidence=evidence,
        )
    first = anomalies[0]
    more = f" (and {len(anomalies) - 1} more)" if len(anomalies) > 1 else ""
    return Verdict(
        check="schema",
        subject=subject,
        outcome="fail",
        action="stop",
        reason=f"column {first['column']!r} {first['what']}{more}",
        evidence=evidence,
    )


def _anomaly(column: str, kind: str, what: str, rows: int = 0, samples: list[Any] | None = None) -> dict[str, Any]:
    return {"column": column, "kind": kind, "what": what, "rows": rows, "samples": [str(s) for s in samples or []]}


def _columns(frame: pl.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    found = []
    for column in schema.columns:
        if column.name not in frame.columns:
            if column.required:
                found.append(_anomaly(column.name, "missing column", "is missing"))
        elif not _fits(frame[column.name], column):
            kind = frame.schema[column.name]
            found.append(
                _anomaly(column.name, "wrong type", f"should hold {column.type}, but holds {kind}", frame.height)
            )
    if schema.extra_columns == "stop":
        known = {column.name for column in schema.columns}
        extra = [name for name in frame.columns if name not in known and not name.startswith("_")]
        found += [_anomaly(name, "unexpected column", "is not in the schema", frame.height) for name in extra]
    return found


def _fits(values: pl.Series, column: Column) -> bool:
    return values.null_count() == len(values) or column_type(values.dtype) in _FITTING[column.type]


def _values(frame: pl.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    present = [c for c in schema.columns if c.name in frame.columns and _fits(frame[c.name], c)]
    if not present or not frame.height:
        return []
    tests = {(column.name, kind): test for column in present for kind, test in _tests(column).items()}
    if not tests:
        return []
    counts = frame.select(test.sum().alias(str(place)) for place, test in enumerate(tests.values())).row(0)
    found = []
    for (name, kind), test, bad in zip(tests, tests.values(), counts, strict=True):
        column = schema.column(name)
        assert column is not None
        if not bad or (kind == "missing values" and bad / frame.height <= column.missing):
            continue
        unique = frame.filter(test)[name].unique(maintain_order=True).head(_SHOWN)
        samples: list[Any] = [] if kind == "missing values" else unique.to_list()
        found.append(_anomaly(name, kind, _says(kind, column, bad, frame.height, samples), bad, samples))
    return found


def _tests(column: Column) -> dict[str, pl.Expr]:
    """For each thing that can be wrong with a value, the expression that is true where it is."""
    values = pl.col(column.name)
    tests = {}
    if column.missing < 1:
        tests["missing values"] = values.is_null()
    if column.type in ("integer", "number"):
        numbers = values.cast(pl.Float64, strict=False)
        if column.low is not None:
            tests["below range"] = numbers < column.low
        if column.high is not None:
            tests["above range"] = (numbers > column.high) & numbers.is_not_nan()
    if column.domain is not None:
        tests["outside domain"] = values.cast(pl.String).is_in(column.domain).not_()
    return {kind: test.fill_null(value=False) for kind, test in tests.items()}


def _says(kind: str, column: Column, bad: int, rows: int, samples: list[Any]) -> str:
    shown = ", ".join(str(sample) for sample in samples[:3])
    if kind == "missing values":
        return f"is null in {bad} of {rows} rows (at most {column.missing:.1%} may be)"
    if kind == "outside domain":
        return f"has {bad} values outside its domain, such as {shown}"
    limit = f"below {column.low:g}" if kind == "below range" else f"above {column.high:g}"
    return f"has {bad} of {rows} values {limit}, such as {shown}"


def _keys(frame: pl.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    if not schema.key or not set(schema.key) <= set(frame.columns):
        return []
    twice = frame.height - frame.n_unique(subset=list(schema.key))
    name = ", ".join(schema.key)
    return [_anomaly(name, "duplicate keys", f"repeats {twice} of its keys", twice)] if twice else []


def infer(frame: pl.DataFrame, source: str, key: tuple[str, ...] = ()) -> Schema:
    """A schema that these rows fit, wide enough for later ones.

    A range is twice the observed span beyond both ends, but never below 0 where nothing was; text keeps an open
    vocabulary; a column without nulls may have a few.

    Raises
    ------
    DataError
        if a key column is not there.
    """
    if absent := [name for name in key if name not in frame.columns]:
        raise DataError(
            f"source {source!r} has no key column {absent[0]!r}", f"its columns: {', '.join(frame.columns)}"
        )
    columns = [_infer_column(frame[name]) for name in frame.columns if not name.startswith(TIME[0])]
    unique = bool(key) and frame.n_unique(subset=list(key)) == frame.height
    return Schema(source=source, columns=tuple(columns), key=key if unique else ())


def _infer_column(values: pl.Series) -> Column:
    kind = column_type(values.dtype)
    nulls = values.null_count() / max(len(values), 1)
    missing = 1.0 if nulls > 0.5 else round(min(1.0, 2 * nulls + 0.05), 3)
    if kind not in ("integer", "number") or values.drop_nulls().is_empty():
        return Column(name=values.name, type=kind, missing=missing)
    numbers = values.cast(pl.Float64).drop_nulls()
    numbers = numbers.filter(numbers.is_finite())
    if numbers.is_empty():
        return Column(name=values.name, type=kind, missing=missing)
    least, most = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]  # not empty, so numbers
    span = max(most - least, abs(most), 1.0)
    low = max(0.0, least - 2 * span) if least >= 0 else least - 2 * span
    endless = values.cast(pl.Float64).is_infinite()
    below, above = (bool((endless & side).any()) for side in (values < 0, values > 0))
    return Column(
        name=values.name,
        type=kind,
        missing=missing,
        low=None if below else low,
        high=None if above else most + 2 * span,
    )


def widen(schema: Schema, frame: pl.DataFrame) -> Schema:
    """The next version of a schema, changed only where these rows do not fit it."""
    anomalies = validate(frame, schema, schema.source).evidence["anomalies"]
    found = {(one["column"], one["kind"]) for one in anomalies}
    columns = [
        _widen_column(column, frame, {kind for name, kind in found if name == column.name}) for column in schema.columns
    ]
    columns += [_infer_column(frame[name]) for name, kind in sorted(found) if kind == "unexpected column"]
    twice = any(kind == "duplicate keys" for _, kind in found)
    return replace(schema, columns=tuple(columns), key=() if twice else schema.key, version=schema.version + 1)


def _widen_column(column: Column, frame: pl.DataFrame, kinds: set[str]) -> Column:
    if "missing column" in kinds:
        return replace(column, required=False)
    if "wrong type" in kinds:
        return _infer_column(frame[column.name])
    if "missing values" in kinds:
        column = replace(column, missing=frame[column.name].null_count() / frame.height)
    if "outside domain" in kinds and column.domain is not None:
        seen = frame[column.name].cast(pl.String).drop_nulls().unique().to_list()
        column = replace(column, domain=tuple(sorted({*column.domain, *seen})))
    if kinds & {"below range", "above range"}:
        numbers = frame[column.name].cast(pl.Float64).drop_nulls()
        bounds = [float(one) for one in (numbers.min(), numbers.max()) if isinstance(one, float)]
        column = replace(
            column,
            low=min(bounds[0], column.low) if column.low is not None else None,
            high=max(bounds[1], column.high) if column.high is not None else None,
        )
    return column
