"""Converts labels to rows of the journal: an outcome by the id of its prediction, or by the key and time of its row."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from tidemill.core.model import Input, PredictionTask
from tidemill.data.classes import match_classes
from tidemill.data.keys import normalize_row_keys
from tidemill.data.rows import RowReader
from tidemill.data.spellings import unify_spellings
from tidemill.errors import DataError

_LONGEST = 60
_MOST_NAMES = 20
_NAMES = RowReader(
    (
        Input(name="known_at", type="time"),
        Input(name="id", type="text"),
        Input(name="key", type="text"),
        Input(name="time", type="time"),
    )
)


def to_label_rows(
    frame: pl.DataFrame,
    task: PredictionTask,
    classes: Sequence[str],
    now: datetime,
    spellings: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Return rows of the journal's kind `labels/<model>`, from columns `value` and `id`, or `key` and `time`.

    For a classification each value becomes the class that it means, by its `spellings` or as `match_classes` finds it.
    Without `known_at` a label is known from now on. A column `kind` has the type in which each value was sent.

    Raises
    ------
    DataError
        if a value is missing, means none of the classes or is not a number, if the values have several kinds, or if a
        label names no prediction and no row.
    """
    if "value" not in frame.columns:
        raise DataError("the labels have no column 'value'", "send the outcome of each row as `value`")
    names = _NAMES.read_frame(frame)
    ids, keys = names["id"].fill_null(""), normalize_row_keys(names["key"].fill_null(""))
    unnamed = (ids == "") & ((keys == "") | names["time"].is_null())
    if unnamed.any():
        raise DataError(
            f"label {unnamed.arg_max()} names no prediction and no row",
            "add the id of the prediction, or the key and the event time of its row",
        )
    known_at = names["known_at"].fill_null(now)
    values = _read_values(unify_spellings(frame["value"], spellings or {}), task, classes)
    if "kind" in frame.columns:
        _require_one_kind(frame)
    return pl.DataFrame([known_at, ids, keys, names["time"], values])


def _require_one_kind(frame: pl.DataFrame) -> None:
    """Raise `DataError` if labels of one request have several types: some are other values than they should be."""
    kinds = frame["kind"]
    other = (kinds != kinds.first()).arg_max() if kinds.n_unique() > 1 else None
    if other is not None:
        value, first = (f"{frame['value'][index]!r}, a {kinds[index]}" for index in (other, 0))
        raise DataError(f"label {other} is {value}, and label 0 is {first}", "send all labels of a request in one type")


def _read_values(values: pl.Series, task: PredictionTask, classes: Sequence[str]) -> pl.Series:
    if values.null_count():
        raise DataError(
            f"label {values.is_null().arg_max()} has no value", "send a label when its outcome is known, not before"
        )
    if task == "classification":
        return _read_classes(values, classes)
    if not values.dtype.is_numeric():
        raise DataError(f"label 0 should be a number, but is {values[0]!r}", "send numbers: the model is a regression")
    numbers = values.cast(pl.Float64)
    if not numbers.is_finite().all():
        index = int(numbers.is_finite().arg_min() or 0)
        raise DataError(f"label {index} is {numbers[index]}, which is not a finite number", "send finite numbers")
    return numbers.alias("value")


def _read_classes(values: pl.Series, classes: Sequence[str]) -> pl.Series:
    matched = match_classes(values, classes)
    if matched.null_count():
        index = int(matched.is_null().arg_max() or 0)
        shown = repr(values[index])
        shown = shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"
        names = ", ".join(map(repr, classes[:_MOST_NAMES])) + (", …" if len(classes) > _MOST_NAMES else "")
        raise DataError(f"label {index} is {shown}, which is not a class of the model", f"send one of: {names}")
    return matched.alias("value")
