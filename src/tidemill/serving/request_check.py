"""Checks the rows of a request: their columns, and their values by the schema that the model was trained under."""

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any, Literal, NamedTuple

import polars as pl
from msgspec import Struct

from tidemill.checks.inference import TOLERATED_NULLS
from tidemill.core.feature import FeatureView
from tidemill.core.model import Manifest
from tidemill.core.schema import Column, ColumnType
from tidemill.errors import DataError

Row = dict[str, Any]
WarningKind = Literal["unknown column", "absent input", "absent optional input", "outside range", "outside domain"]

# Up to this number of rows, comparing each value is faster than asking Polars for the extremes of each column.
_FEW_ROWS = 16
_MOST_WARNINGS = 20
_MOST_VALUES = 10
_LONGEST = 60


class RequestWarning(Struct, frozen=True):
    """What does not fit in a request: a column, the number of its rows, and the index of the first of them."""

    kind: WarningKind
    column: str
    rows: int
    row: int
    message: str


class _Range(NamedTuple):
    """The least and the greatest value of a number."""

    name: str
    low: float
    high: float

    def excludes(self, value: Any) -> bool:
        return value is not None and (value < self.low or value > self.high)

    def sample(self, values: pl.Series) -> Iterable[Any]:
        """Return the values of a column that decide whether all of its values are allowed."""
        return (values.min(), values.max()) if values.dtype.is_numeric() else ()

    def describe(self) -> str:
        if self.low == float("-inf"):
            return f"its range, at most {self.high:g}"
        if self.high == float("inf"):
            return f"its range, at least {self.low:g}"
        return f"its range {self.low:g} … {self.high:g}"


class _Domain(NamedTuple):
    """The allowed values of a column."""

    name: str
    allowed: frozenset[Any]
    texts: tuple[str, ...]

    def excludes(self, value: Any) -> bool:
        return value is not None and value not in self.allowed

    def sample(self, values: pl.Series) -> Iterable[Any]:
        """Return the values of a column that decide whether all of its values are allowed."""
        return () if values.dtype.is_nested() else values.unique().to_list()

    def describe(self) -> str:
        shown = ", ".join(self.texts[:_MOST_VALUES]) + (", …" if len(self.texts) > _MOST_VALUES else "")
        return f"its domain ({shown})"


class RequestChecker:
    """Checks requests for one model; create it once for each route.

    A request may contain the model's inputs, the `other_columns`, and every column of the source's schema. Each input
    must be in each row, except the event time and the features of views, which the service adds: a row that lacks such
    a feature must have the key of its entity. If a `key` names the regimes, it must be in each row too. A value must be
    in the range or the domain of its column; null is a missing value and always allowed. Packages without a schema have
    no ranges and no domains.
    """

    def __init__(self, manifest: Manifest, other_columns: Iterable[str], key: str = "") -> None:
        types = {column.name: column.type for column in manifest.signature.inputs}
        used = manifest.features.views if manifest.features else ()
        views = {name for view in used for name in view.features}
        self._views = [(view, frozenset(types.keys() & set(view.features))) for view in used]
        self._known = frozenset({*types, *other_columns, *(column.name for column in manifest.columns)})
        self._key = key if key not in types else ""
        self._expected = frozenset((types.keys() - views - {manifest.time}) | ({key} if key else set()))
        self._optional = {column.name for column in manifest.columns if column.missing > TOLERATED_NULLS} - {key}
        self._limits = [
            limit
            for column in manifest.columns
            if column.name in types
            for limit in _list_limits(column, types[column.name])
        ]

    def check(self, rows: Sequence[Row] | None, frame: pl.DataFrame) -> list[RequestWarning]:
        """Return what does not fit, at most 20 entries.

        Parameters
        ----------
        rows
            the rows as JSON; None where the request is a frame.
        frame
            the same rows as a frame, with the inputs in their types.
        """
        if rows is None:
            warnings = list(self._check_names(frame.columns, None, frame.height)) if frame.height else []
        else:
            layouts = {tuple(row) for row in rows}
            fits = all(
                self._known.issuperset(names)
                and self._expected.issubset(names)
                and not any(self._lacks_key(view, features, names) for view, features in self._views)
                for names in layouts
            )
            warnings = [] if fits else list(self._check_names({name for row in rows for name in row}, rows, len(rows)))
        for limit in self._limits:
            if rows is not None and len(rows) <= _FEW_ROWS:
                values: Iterable[Any] = [row.get(limit.name) for row in rows]
            elif limit.name in frame.columns:
                values = limit.sample(frame.get_column(limit.name))
            else:
                continue
            for value in values:
                if limit.excludes(value):
                    warnings.append(_describe_values(limit, frame.get_column(limit.name).to_list()))
                    break
        return warnings[:_MOST_WARNINGS]

    def _check_names(self, names: Iterable[str], rows: Sequence[Row] | None, count: int) -> Iterator[RequestWarning]:
        present = set(names)

        def find_rows(name: str, *, has: bool) -> Sequence[int]:
            if rows is None:
                return range(count if (name in present) == has else 0)
            return [index for index, row in enumerate(rows) if (name in row) == has]

        absences = {name: indices for name in sorted(self._expected) if (indices := find_rows(name, has=False))}
        for name in sorted(present - self._known)[:_MOST_WARNINGS]:
            indices = find_rows(name, has=True)
            near = _find_near(name, absences) or _find_near(name, self._expected)
            message = f"column {_shorten(name)} is unknown ({_describe_rows(indices, count)})"
            message += f"; did you mean {near!r}?" if near else ""
            yield RequestWarning("unknown column", name[:_LONGEST], len(indices), indices[0], message)
        for name, indices in absences.items():
            title = f"{name!r}, which names the regime of a row," if name == self._key else f"input {name!r}"
            message = f"{title} is absent ({_describe_rows(indices, count)}); send null where it has no value"
            kind: WarningKind = "absent optional input" if name in self._optional else "absent input"
            yield RequestWarning(kind, name, len(indices), indices[0], message)
        if rows is not None:
            yield from self._check_view_keys(rows, [range(index, index + 1) for index in range(count)])
        elif count:
            yield from self._check_view_keys([present], [range(count)])

    def _check_view_keys(
        self, layouts: Sequence[Container[str]], indices_of: Sequence[range]
    ) -> Iterator[RequestWarning]:
        """Check layouts, each of which is that of the rows at its `indices_of`."""
        warned, count = set(self._expected), sum(map(len, indices_of))
        for view, features in self._views:
            lacking = [index for index, names in enumerate(layouts) if self._lacks_key(view, features, names)]
            for key in view.entity.keys:
                without = [indices_of[index] for index in lacking if key not in layouts[index]]
                if key not in warned and without:
                    warned.add(key)
                    indices = list(chain.from_iterable(without))
                    message = f"{key!r}, the key of the feature view {view.name!r}, is absent "
                    message += f"({_describe_rows(indices, count)}); send null where it has no value"
                    yield RequestWarning("absent input", key, len(indices), indices[0], message)

    @staticmethod
    def _lacks_key(view: FeatureView, features: Collection[str], names: Container[str]) -> bool:
        """Return whether features of a view cannot be looked up for a row with the columns `names`."""
        return any(name not in names for name in features) and any(name not in names for name in view.entity.keys)


def raise_strict(warnings: Sequence[RequestWarning], model: str) -> None:
    """Raise `DataError` if there are warnings: the model's requests are checked strictly.

    An input that was often missing in the training rows may be absent.
    """
    warnings = [warning for warning in warnings if warning.kind != "absent optional input"]
    if not warnings:
        return
    shown = "; ".join(warning.message for warning in warnings[:3])
    more = f"; and {len(warnings) - 3} more" if len(warnings) > 3 else ""
    raise DataError(
        f"the rows do not fit model {model!r}: {shown}{more}",
        "send every input, only columns of the source, and values inside their ranges and domains; or set "
        "strict = false under [serving], to get predictions with warnings",
    )


def _list_limits(column: Column, kind: ColumnType) -> Iterator[_Range | _Domain]:
    if kind in ("integer", "number") and (column.low is not None or column.high is not None):
        low = float("-inf") if column.low is None else column.low
        yield _Range(column.name, low, float("inf") if column.high is None else column.high)
    if column.domain is not None and kind in ("boolean", "integer", "number", "text"):
        values = (_parse_value(text, kind) for text in column.domain)
        yield _Domain(column.name, frozenset(value for value in values if value is not None), column.domain)


def _parse_value(text: str, kind: ColumnType) -> Any:
    """Return a value of a domain in its column's type; None for a text that is no such value."""
    if kind == "text":
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text)
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def _describe_values(limit: _Range | _Domain, values: list[Any]) -> RequestWarning:
    indices = [index for index, value in enumerate(values) if limit.excludes(value)]
    message = (
        f"input {limit.name!r} is {_shorten(values[indices[0]])}, outside {limit.describe()} "
        f"({_describe_rows(indices, len(values))})"
    )
    kind: WarningKind = "outside range" if isinstance(limit, _Range) else "outside domain"
    return RequestWarning(kind, limit.name, len(indices), indices[0], message)


def _describe_rows(indices: Sequence[int], rows: int) -> str:
    if len(indices) == rows:
        return "in every row" if rows > 1 else "row 0"
    return f"row {indices[0]}" if len(indices) == 1 else f"{len(indices)} of {rows} rows, first row {indices[0]}"


def _find_near(name: str, names: Iterable[str]) -> str:
    folded = {known.casefold(): known for known in names}
    near = get_close_matches(name[:_LONGEST].casefold(), list(folded), 1)
    return folded[near[0]] if near else ""


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
