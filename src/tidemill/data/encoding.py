"""Encodes rows as numbers for an estimator; the vocabularies are fitted once and used again at serving."""

from typing import Literal

import numpy as np
import polars as pl
from msgspec import Struct

from tidemill.core.model import Input
from tidemill.core.schema import ColumnType
from tidemill.data.arrays import Floats
from tidemill.data.keys import count_values
from tidemill.data.rows import convert_columns
from tidemill.data.timestamps import TIMESTAMP
from tidemill.data.types import column_type
from tidemill.errors import DataError

_RARE = 5
_LARGEST_VOCABULARY = 1000
_PARTS = ("year", "month", "day_of_year", "weekday", "hour", "elapsed")
_EARLIER_PARTS = ("hour", "weekday")
_DAY = 86_400_000_000
# With fewer rows than this, a dictionary is faster than a join.
_DICTIONARY_ROWS = 64


class ColumnEncoding(Struct, frozen=True, kw_only=True):
    """The encoding of one column: the number itself, the index in a vocabulary (−1: unseen), or `parts` of a time.

    NaN means missing. A time without `parts`, as in packages of earlier versions, is encoded as hour and weekday.
    `elapsed` is the number of days since `origin`; `origin` is a number of days since 1970.
    """

    name: str
    type: ColumnType
    kind: Literal["number", "category", "time"]
    vocabulary: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    origin: float = 0.0


class Encoding(Struct, frozen=True, kw_only=True):
    """The encoding of the inputs of a model as a matrix of numbers.

    Attributes
    ----------
    columns
        The encoding of each input, in order.
    """

    columns: tuple[ColumnEncoding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of the matrix; a time has one column for each of its parts, such as the year."""
        return tuple(part for column in self.columns for part in _list_column_names(column))

    @property
    def categorical(self) -> tuple[int, ...]:
        """The indices of the columns that contain categories."""
        kinds = [column.kind for column in self.columns for _ in _list_column_names(column)]
        return tuple(index for index, kind in enumerate(kinds) if kind == "category")

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs of the model, with their types."""
        return tuple(Input(name=column.name, type=column.type) for column in self.columns)


def fit_encoding(frame: pl.DataFrame, names: tuple[str, ...]) -> Encoding:
    """Fit the encoding of columns.

    The vocabulary of a text has the values that occur at least 5 times, at most the 1,000 most frequent ones. A time
    has the parts that vary: year, month, day of the year, weekday, hour (with the minutes) and elapsed time.

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
                f"column {name!r} is null in every row", f'exclude it: [inputs] exclude = ["{name}"] in tidemill.toml'
            )
        columns.append(_fit_column(values))
    return Encoding(columns=tuple(columns))


def _fit_column(values: pl.Series) -> ColumnEncoding:
    kind = column_type(values.dtype)
    if kind == "nested":
        raise DataError(
            f"column {values.name!r} has the type {values.dtype}, which a model cannot use",
            "exclude it under [inputs] in tidemill.toml, or compute columns from it in a step of your own",
        )
    if kind in ("time", "date"):
        times = convert_columns(values.to_frame(), {values.name: kind})[values.name].cast(TIMESTAMP).drop_nulls()
        parts = _find_varying_parts(times)
        origin = float(_extract_part(times, "elapsed", 0.0).min()) if parts else 0.0
        return ColumnEncoding(name=values.name, type=kind, kind="time", parts=parts, origin=origin)
    if kind != "text":
        return ColumnEncoding(name=values.name, type=kind, kind="number")
    texts = convert_columns(values.to_frame(), {values.name: kind})[values.name]
    counts = count_values(texts)
    frequent = counts.filter(pl.col("count") >= min(_RARE, max(1, len(values) // 100)))
    words = frequent["value"].head(_LARGEST_VOCABULARY).to_list()
    return ColumnEncoding(name=values.name, type="text", kind="category", vocabulary=tuple(sorted(words)))


def _find_varying_parts(times: pl.Series) -> tuple[str, ...]:
    """Return the parts of times that vary; if all times are the first of a year or month, only the parts down to it."""
    candidates: tuple[str, ...] = _PARTS
    if np.unique(_extract_part(times, "hour", 0.0)).size == 1 and times.dt.day().n_unique() == 1:
        candidates = ("year",) if times.dt.month().n_unique() == 1 else ("year", "month", "elapsed")
    return tuple(part for part in candidates if np.unique(_extract_part(times, part, 0.0)).size > 1)


def encode(encoding: Encoding, frame: pl.DataFrame) -> Floats:
    """Return the rows as a matrix, shape (rows, columns); a missing column or value is NaN.

    Raises
    ------
    DataError
        if a column contains a value that its type does not allow.
    """
    present = set(frame.columns)
    typed = convert_columns(frame, {column.name: column.type for column in encoding.columns if column.name in present})
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
    # Columns that are contiguous are copied in a tenth of the time.
    matrix = np.empty((frame.height, len(parts)), order="F")
    for index, part in enumerate(parts):
        matrix[:, index] = part
    return matrix


def _encode_column(column: ColumnEncoding, typed: dict[str, pl.Series], height: int) -> list[Floats]:
    if column.name not in typed:
        return [np.full(height, np.nan) for _ in _list_column_names(column)]
    values = typed[column.name]
    if column.kind == "category":
        return [_find_indices(values, column.vocabulary)]
    times = values.cast(TIMESTAMP)
    return [_extract_part(times, part, column.origin) for part in column.parts or _EARLIER_PARTS]


def _extract_part(times: pl.Series, part: str, origin: float) -> Floats:
    """Return one part of UTC times, shape (rows,); NaN for a missing time."""
    match part:
        case "year":
            values = times.dt.year()
        case "month":
            values = times.dt.month()
        case "day_of_year":
            values = times.dt.ordinal_day()
        case "weekday":
            values = times.dt.weekday()
        case "hour":
            values = times.dt.hour().cast(pl.Float64) + times.dt.minute().cast(pl.Float64) / 60
        case _:
            values = times.to_physical() / _DAY - origin
    return values.cast(pl.Float64).to_numpy()


def _find_indices(text: pl.Series, vocabulary: tuple[str, ...]) -> Floats:
    """Return the index of each text in the vocabulary, −1 for an unseen text, NaN for null."""
    if len(text) < _DICTIONARY_ROWS:
        indices = {word: float(index) for index, word in enumerate(vocabulary)}
        return np.array([np.nan if word is None else indices.get(word, -1.0) for word in text.to_list()])
    words = pl.Series(vocabulary, dtype=pl.String)
    known_indices = text.replace_strict(words, pl.Series(range(len(words)), dtype=pl.Float64), default=-1.0)
    return known_indices.set(text.is_null(), None).to_numpy()


def _list_column_names(column: ColumnEncoding) -> tuple[str, ...]:
    if column.kind != "time":
        return (column.name,)
    return tuple(f"{column.name}_{part}" for part in column.parts or _EARLIER_PARTS)
