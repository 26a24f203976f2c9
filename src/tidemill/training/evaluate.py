"""Evaluates scores against the truth, as a whole and by slice."""

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.core.model import Task
from tidemill.core.run import Metrics
from tidemill.data.classes import order_classes
from tidemill.data.keys import as_classes
from tidemill.data.metrics import Floats, Truth, intervals, measure, measure_more
from tidemill.errors import DataError

_LEAST_SLICE = 30
_MOST_SLICES = 50


def find_classes(labels: pl.Series, name: str, positive: str = "") -> tuple[str, ...]:
    """The classes of a label, in order; of two the second is the positive one, which `positive` may name.

    Raises
    ------
    DataError
        if there are fewer than two, or so many that it looks like a number.
    ConfigurationError
        if `positive` is not one of two classes.
    """
    found = as_classes(labels).drop_nulls().unique().to_list()
    if len(found) < 2:
        raise DataError(
            f"label {name!r} has {'one class only' if found else 'no values'}" + (f": {found[0]!r}" if found else ""),
            "give rows of at least two classes",
        )
    if len(found) > 100:
        raise DataError(
            f"label {name!r} has {len(found)} classes", 'if it is a number, set task = "regression" under [problem]'
        )
    return order_classes(found, positive)


def filter_classes(rows: pl.DataFrame, label: str, classes: tuple[str, ...]) -> pl.DataFrame:
    """The rows whose label is one of these classes; every row where there are none, as for a number."""
    return rows.filter(as_classes(rows[label]).is_in(list(classes))) if classes else rows


def to_truth(labels: pl.Series, task: Task, classes: tuple[str, ...]) -> Truth:
    """Labels without nulls as the truth: class numbers, or numbers."""
    if task == "regression":
        return Truth(task, labels.cast(pl.Float64).to_numpy())
    places = as_classes(labels).replace_strict(list(classes), list(range(len(classes))), default=None)
    if places.null_count():
        raise DataError(
            f"label {labels.name!r} has a class that the model does not know",
            "train on rows that have it: with a shorter `test` under [training], or when more of them have come",
        )
    return Truth(task, places.to_numpy(), classes)


def predict_baseline(train: Truth, rows: int) -> Floats:
    """What the trivial baseline says: the training rows' class shares, or their mean, for every row."""
    if train.task == "regression":
        return np.full(rows, train.values.astype(float).mean())
    shares = np.bincount(train.values.astype(int), minlength=len(train.classes)) / len(train.values)
    return np.tile(shares, (rows, 1))


def check_slice_columns(frame: pl.DataFrame, columns: tuple[str, ...]) -> None:
    """Raise `DataError` where a column to slice by is not there."""
    for column in columns:
        if column not in frame.columns:
            known = ", ".join(name for name in frame.columns if not name.startswith("_"))
            raise DataError(
                f"there is no column {column!r} to slice by",
                f"mend slices under [gate] in tidemill.toml; the columns are: {known}",
            )


def find_slices(frame: pl.DataFrame, columns: tuple[str, ...]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which rows have each value of the slicing columns: of each the 50 commonest, where at least 30 rows do."""
    check_slice_columns(frame, columns)
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for column in columns:
        values = frame[column].cast(pl.String)
        counts = values.drop_nulls().value_counts().sort("count", column, descending=[True, False]).head(_MOST_SLICES)
        for value in counts.filter(pl.col("count") >= _LEAST_SLICE)[column]:
            found[f"{column}={value}"] = (values == value).fill_null(value=False).to_numpy()
    return found


def evaluate(
    truth: Truth,
    scores: Floats,
    slices: dict[str, npt.NDArray[np.bool_]],
    about: str = "",
    confidence: float = 0.95,
) -> Metrics:
    """The metrics of a task with their intervals, and those of each slice; one that is not finite is left out."""
    parts, around = {}, {}
    sure = np.isfinite(scores).all()
    for name, inside in slices.items():
        part, said = Truth(truth.task, truth.values[inside], truth.classes), scores[inside]
        parts[name] = {"rows": float(inside.sum()), **_finite(measure(part, said))}
        if sure:
            around[name] = intervals(part, said, confidence, areas=False)
    values = _finite(measure(truth, scores) | measure_more(truth, scores))
    found = intervals(truth, scores, confidence) if sure else {}
    return Metrics(values=values, slices=parts, about=about, intervals=found, slice_intervals=around)


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
