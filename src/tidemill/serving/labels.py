"""Converts labels to rows of the journal: an outcome by the id of its prediction, or by the key and time of its row."""

from datetime import datetime

import polars as pl

from tidemill.core.model import Input, Task
from tidemill.data.keys import to_class_names
from tidemill.data.rows import RowReader
from tidemill.errors import DataError

_NAMES = RowReader(
    (
        Input(name="known_at", type="time"),
        Input(name="id", type="text"),
        Input(name="key", type="text"),
        Input(name="time", type="time"),
    )
)


def to_label_rows(frame: pl.DataFrame, task: Task, now: datetime) -> pl.DataFrame:
    """Return rows of the journal's kind `labels/<model>`, from columns `value` and `id`, or `key` and `time`.

    `data.keys.to_class_names` formats the classes. Without `known_at` a label is known from now on.

    Raises
    ------
    DataError
        if a value is missing or does not fit the task, or a label names no prediction and no row.
    """
    if "value" not in frame.columns:
        raise DataError("the labels have no column 'value'", "send the outcome of each row as `value`")
    names = _NAMES.read_frame(frame)
    ids, keys = names["id"].fill_null(""), names["key"].fill_null("")
    unnamed = (ids == "") & ((keys == "") | names["time"].is_null())
    if unnamed.any():
        raise DataError(
            f"label {unnamed.arg_max()} names no prediction and no row",
            "add the id of the prediction, or the key and the event time of its row",
        )
    known_at = names["known_at"].fill_null(now)
    return pl.DataFrame([known_at, ids, keys, names["time"], _values(frame["value"], task)])


def _values(values: pl.Series, task: Task) -> pl.Series:
    if values.null_count():
        raise DataError(
            f"label {values.is_null().arg_max()} has no value", "send a label when its outcome is known, not before"
        )
    if task == "classification":
        return to_class_names(values).alias("value")
    if not values.dtype.is_numeric():
        raise DataError(f"label 0 should be a number, but is {values[0]!r}", "send numbers: the model is a regression")
    if not values.cast(pl.Float64).is_finite().all():
        raise DataError("a label is not a finite number", "send finite numbers")
    return values.cast(pl.Float64).alias("value")
