"""Encodes rows as numbers for an estimator; the vocabularies are fitted once and used again at serving."""

from typing import Literal

import numpy as np
import polars as pl
from msgspec import Struct

from tidemill.core.model import Input
from tidemill.core.schema import ColumnType
from tidemill.data.arrays import Floats
from tidemill.data.rows import convert_columns
from tidemill.data.timestamps import TIMESTAMP
from tidemill.data.types import column_type
from tidemill.errors import DataError

_RARE = 5
_LARGEST_VOCABULARY = 1000
_PARTS = ("year", "month", "day_of_year", "weekday", "hour", "elapsed")
_EARLIER_PARTS = ("hour", "weekday")
_DAY = 86_400_000_000
# For fewer rows than this a dictionary is quicker than a join.
_FEW = 64


class ColumnEncoding(Struct, frozen=True, kw_only=True):
    """How one column becomes numbers: as it is, its index in a vocabulary (−1: unseen), or the `parts` of a time.

    NaN is missing. A time without `parts`, as in packages of earlier versions, is its hour and its weekday. `elapsed`
    counts days since `origin`, which counts days since 1970.
    """

    name: str
    type: ColumnType
    kind: Literal["number", "category", "time"]
    vocabulary: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    origin: float = 0.0


class Encoding(Struct, frozen=True, kw_only=True):
    """How the inputs of a model become the columns of a matrix of numbers.

    Attributes
    ----------
    columns
        The encoding of each input, in order.
    """

    columns: tuple[ColumnEncoding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the matrix's columns; a time has one for each of its parts, such as its year."""
        return tuple(part for column in self.columns for part in _parts(column))

    @property
    def categorical(self) -> tuple[int, ...]:
        """The places of the columns that hold categories."""
        kinds = [column.kind for column in self.columns for _ in _parts(column)]
        return tuple(place for place, kind in enumerate(kinds) if kind == "category")

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs that these encodings take."""
        return tuple(Input(name=column.name, type=column.type) for column in self.columns)


def fit_encoding(frame: pl.DataFrame, names: tuple[str, ...]) -> Encoding:
    """Learn how columns become numbers.

    Of a text the vocabulary: values seen at least 5 times, the most frequent 1,000 of them. Of a time the parts that
    vary: year, month, day of the year, weekday, hour (with its minutes), and the time elapsed.

    Raises
    ------
    DataError
        if a column is absent, or null in every row.
    """
    columns = []
    for name in names:
        if name not in frame.columns:
            raise DataError(f"there is no column {name!r}", f"the columns are: {', '.join(frame.columns)}")
        values = frame[name]
        if values.null_count() == len(values):
            raise DataError(
                f"column {name!r} is null in every row", f'leave it out: [inputs] exclude = ["{name}"] in tidemill.toml'
            )
        columns.append(_fit_column(values))
    return Encoding(columns=tuple(columns))


def _fit_column(values: pl.Series) -> ColumnEncoding:
    kind = column_type(values.dtype)
    if kind == "nested" or values.dtype == pl.Duration:
        raise DataError(
            f"column {values.name!r} holds {values.dtype}, which no model takes",
            "leave it out under [inputs] in tidemill.toml, or make columns of it in a step of your own",
        )
    if kind in ("time", "date"):
        moments = convert_columns(values.to_frame(), {values.name: kind})[values.name].cast(TIMESTAMP).drop_nulls()
        parts = _varying_parts(moments)
        origin = float(_part_of(moments, "elapsed", 0.0).min()) if parts else 0.0
        return ColumnEncoding(name=values.name, type=kind, kind="time", parts=parts, origin=origin)
    if kind != "text":
        return ColumnEncoding(name=values.name, type=kind, kind="number")
    texts = convert_columns(values.to_frame(), {values.name: kind})[values.name]
    counts = texts.drop_nulls().value_counts().sort("count", values.name, descending=[True, False])
    frequent = counts.filter(pl.col("count") >= min(_RARE, max(1, len(values) // 100)))
    words = frequent[values.name].head(_LARGEST_VOCABULARY).to_list()
    return ColumnEncoding(name=values.name, type="text", kind="category", vocabulary=tuple(sorted(words)))


def _varying_parts(moments: pl.Series) -> tuple[str, ...]:
    """The parts of times that vary: of years written as dates the year alone, of months no weekday."""
    wanted: tuple[str, ...] = _PARTS
    if np.unique(_part_of(moments, "hour", 0.0)).size == 1 and moments.dt.day().n_unique() == 1:
        wanted = ("year",) if moments.dt.month().n_unique() == 1 else ("year", "month", "elapsed")
    return tuple(part for part in wanted if np.unique(_part_of(moments, part, 0.0)).size > 1)


def encode(encoding: Encoding, frame: pl.DataFrame) -> Floats:
    """The matrix of these rows, shape (rows, columns): a missing column or value is NaN.

    Raises
    ------
    DataError
        if a column holds what its type does not allow.
    """
    typed = convert_columns(
        frame, {column.name: column.type for column in encoding.columns if column.name in frame.columns}
    )
    plain = {
        column.name: typed[column.name].cast(pl.Float64).to_numpy()
        for column in encoding.columns
        if column.kind == "number" and column.name in typed
    }
    parts = [
        part
        for column in encoding.columns
        for part in ([plain[column.name]] if column.name in plain else _encode_column(column, typed, frame.height))
    ]
    return np.column_stack(parts) if parts else np.empty((frame.height, 0))


def _encode_column(column: ColumnEncoding, typed: dict[str, pl.Series], height: int) -> list[Floats]:
    if column.name not in typed:
        return [np.full(height, np.nan) for _ in _parts(column)]
    values = typed[column.name]
    if column.kind == "category":
        return [_places(values, column.vocabulary)]
    moments = values.cast(TIMESTAMP)
    return [_part_of(moments, part, column.origin) for part in column.parts or _EARLIER_PARTS]


def _part_of(moments: pl.Series, part: str, origin: float) -> Floats:
    """One part of UTC times, shape (rows,): NaN where there is none."""
    match part:
        case "year":
            found = moments.dt.year()
        case "month":
            found = moments.dt.month()
        case "day_of_year":
            found = moments.dt.ordinal_day()
        case "weekday":
            found = moments.dt.weekday()
        case "hour":
            found = moments.dt.hour().cast(pl.Float64) + moments.dt.minute().cast(pl.Float64) / 60
        case _:
            found = moments.to_physical() / _DAY - origin
    return found.cast(pl.Float64).to_numpy()


def _places(text: pl.Series, vocabulary: tuple[str, ...]) -> Floats:
    """The place of each word, −1 for one that is unseen, NaN for null."""
    if len(text) < _FEW:
        known = {word: float(place) for place, word in enumerate(vocabulary)}
        return np.array([np.nan if word is None else known.get(word, -1.0) for word in text.to_list()])
    words = pl.Series(vocabulary, dtype=pl.String)
    known_places = text.replace_strict(words, pl.Series(range(len(words)), dtype=pl.Float64), default=-1.0)
    return known_places.set(text.is_null(), None).to_numpy()


def _parts(column: ColumnEncoding) -> tuple[str, ...]:
    if column.kind != "time":
        return (column.name,)
    return tuple(f"{column.name}_{part}" for part in column.parts or _EARLIER_PARTS)
