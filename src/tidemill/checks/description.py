"""Describes the columns of a table for `init`: type, nulls, values, and what each column is used for."""

from collections import Counter
from datetime import datetime

import polars as pl
from msgspec import Struct

from tidemill.data.keys import count_values
from tidemill.data.types import column_type
from tidemill.project.guessing import TableGuess

_MOST_COLUMNS = 60
_SHOWN_INPUTS = 20
_SHOWN_VALUES = 4
_FEW_VALUES = 10
_LONGEST_VALUE = 24


class ColumnDescription(Struct, frozen=True, kw_only=True):
    """A column: its type, its share of nulls, its values (the most frequent ones, or the range), and its use."""

    name: str
    type: str
    nulls: float
    values: str
    use: str


def describe_columns(frame: pl.DataFrame, guessed: TableGuess) -> tuple[list[ColumnDescription], str]:
    """Return the descriptions of the columns, and a sentence about those that are left out.

    Of a table with more than 60 columns, the label, the time, the key, the excluded columns and 20 inputs are
    described, at most 60.
    """
    chosen = frame.columns
    if len(chosen) > _MOST_COLUMNS:
        roles = [guessed.label, *([guessed.time] if guessed.time else []), *guessed.key]
        others = [name for name in guessed.inputs if name not in roles][:_SHOWN_INPUTS]
        chosen = list(dict.fromkeys([*roles, *others, *guessed.excluded]))[:_MOST_COLUMNS]
    hidden = [name for name in frame.columns if name not in chosen]
    schema = frame.schema
    kinds = Counter(str(column_type(schema[name])) for name in hidden)
    summary = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    rest = f"and {len(hidden):,} more columns ({summary}): see `tidemill data profile`" if hidden else ""
    return [_describe(frame[name], guessed) for name in chosen], rest


def _describe(values: pl.Series, guessed: TableGuess) -> ColumnDescription:
    return ColumnDescription(
        name=values.name,
        type=column_type(values.dtype),
        nulls=values.null_count() / max(len(values), 1),
        values=describe_values(values),
        use=_describe_use(values.name, guessed),
    )


def _describe_use(name: str, guessed: TableGuess) -> str:
    if name == guessed.label:
        return f"label of the {guessed.task}"
    if name in guessed.key:
        return "key"
    if name == guessed.time:
        return "event time, and input" if name in guessed.inputs else "event time"
    if name in guessed.excluded:
        return f"excluded: {guessed.excluded[name]}"
    return "input"


def describe_values(values: pl.Series) -> str:
    """Return the most frequent values with their counts, or the range of many numbers or times.

    >>> describe_values(pl.Series(["no", "yes", "no"])), describe_values(pl.Series([0.5, 20.0] * 9 + list(range(9))))
    ('no 2, yes 1', '0 to 20')
    """
    known = values.drop_nulls()
    if known.is_empty() or values.dtype.is_nested() or values.dtype == pl.Binary:
        return ""
    distinct = known.n_unique()
    is_ordered = values.dtype.is_numeric() or values.dtype.is_temporal()
    if is_ordered and distinct > _FEW_VALUES:
        return f"{_format(known.min())} to {_format(known.max())}"
    counted = count_values(known).head(_SHOWN_VALUES).rows()
    if distinct > _FEW_VALUES and counted[0][1] * 50 < len(known):
        return f"{distinct:,} distinct, such as {_format(counted[0][0])}"
    shown = ", ".join(f"{_format(value)} {count:,}" for value, count in counted)
    more = distinct - len(counted)
    return f"{shown} and {more:,} more" if more else shown


def _format(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}" if value.hour or value.minute else f"{value:%Y-%m-%d}"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if text != text.strip() or not text:
        text = repr(text)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
