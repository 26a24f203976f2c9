"""Evaluates scores against the truth, for all rows and by slice."""

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.core.columns import is_internal
from tidemill.core.model import PredictionTask
from tidemill.core.run import Metrics
from tidemill.data.arrays import Floats
from tidemill.data.classes import order_classes
from tidemill.data.keys import count_values, to_class_names
from tidemill.data.metrics import Truth, intervals, measure, measure_more
from tidemill.errors import DataError

_LEAST_SLICE = 30
_MAX_SLICES = 50


def find_classes(labels: pl.Series, name: str, positive: str = "") -> tuple[str, ...]:
    """Return the classes of a label, in order; the second of two is the positive one, which `positive` may name.

    Raises
    ------
    DataError
        if there are fewer than two classes or more than 100.
    ConfigurationError
        if `positive` is not one of two classes.
    """
    classes = to_class_names(labels).drop_nulls().unique().to_list()
    if len(classes) < 2:
        raise DataError(
            f"label {name!r} has {'only one class' if classes else 'no values'}"
            + (f": {classes[0]!r}" if classes else ""),
            "add rows of at least two classes",
        )
    if len(classes) > 100:
        raise DataError(
            f"label {name!r} has {len(classes)} classes", 'if it is a number, set task = "regression" under [problem]'
        )
    return order_classes(classes, positive)


def filter_classes(rows: pl.DataFrame, label: str, classes: tuple[str, ...]) -> pl.DataFrame:
    """Return the rows whose label is one of the classes; all rows without classes, as for a regression."""
    return rows.filter(to_class_names(rows[label]).is_in(list(classes))) if classes else rows


def to_truth(labels: pl.Series, task: PredictionTask, classes: tuple[str, ...]) -> Truth:
    """Convert labels without nulls to the truth: class indices, or numbers."""
    if task == "regression":
        return Truth(task, labels.cast(pl.Float64).to_numpy())
    indices = to_class_names(labels).replace_strict(list(classes), list(range(len(classes))), default=None)
    if indices.null_count():
        raise DataError(
            f"label {labels.name!r} has a class that the model was not trained on",
            "train on rows with this class: set a shorter `test` under [training], or wait for more rows",
        )
    return Truth(task, indices.to_numpy(), classes)


def require_finite_labels(truth: Truth, name: str) -> None:
    """Raise `DataError` if a label of a regression is infinite, or too large for an estimator of 32 bits."""
    if truth.task != "regression":
        return
    beyond = truth.values[~(np.abs(truth.values) <= np.finfo(np.float32).max)]
    if len(beyond):
        plural = "" if len(beyond) == 1 else "s"
        raise DataError(
            f"label {name!r} has {len(beyond)} value{plural} that no model can learn, such as {beyond[0]}",
            "correct them in the file, or remove the values: a row without a label is not used",
        )


def predict_baseline(train: Truth, rows: int) -> Floats:
    """Return the trivial baseline for every row: the class shares, or the mean, of the training rows."""
    if train.task == "regression":
        return np.full(rows, train.values.astype(float).mean())
    shares = np.bincount(train.values.astype(int), minlength=len(train.classes)) / len(train.values)
    return np.tile(shares, (rows, 1))


def check_slice_columns(frame: pl.DataFrame, columns: tuple[str, ...]) -> None:
    """Raise `DataError` if a slicing column is missing."""
    for column in columns:
        if column not in frame.columns:
            available = ", ".join(name for name in frame.columns if not is_internal(name))
            raise DataError(
                f"there is no column {column!r} to slice by",
                f"correct slices under [gate] in tidemill.toml; the columns are: {available}",
            )


def find_slices(frame: pl.DataFrame, columns: tuple[str, ...]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return a mask for each value of the slicing columns: the 50 most common of each, with at least 30 rows."""
    check_slice_columns(frame, columns)
    slices: dict[str, npt.NDArray[np.bool_]] = {}
    for column in columns:
        values = frame[column].cast(pl.String)
        counts = count_values(values).head(_MAX_SLICES)
        for value in counts.filter(pl.col("count") >= _LEAST_SLICE)["value"]:
            slices[f"{column}={value}"] = (values == value).fill_null(value=False).to_numpy()
    return slices


def evaluate(
    truth: Truth,
    scores: Floats,
    slices: dict[str, npt.NDArray[np.bool_]],
    about: str = "",
    confidence: float = 0.95,
) -> Metrics:
    """Return the finite metrics of a task with their intervals, for all rows and by slice."""
    slice_values, slice_intervals = {}, {}
    is_finite = np.isfinite(scores).all()
    for name, mask in slices.items():
        slice_truth, slice_scores = Truth(truth.task, truth.values[mask], truth.classes), scores[mask]
        slice_values[name] = {"rows": float(mask.sum()), **_drop_not_finite(measure(slice_truth, slice_scores))}
        if is_finite:
            slice_intervals[name] = intervals(slice_truth, slice_scores, confidence, areas=False)
    values = _drop_not_finite(measure(truth, scores) | measure_more(truth, scores))
    ranges = intervals(truth, scores, confidence) if is_finite else {}
    return Metrics(values=values, slices=slice_values, about=about, intervals=ranges, slice_intervals=slice_intervals)


def _drop_not_finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
