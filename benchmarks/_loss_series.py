"""Losses of two models on the rows of real streams, in their order: what a canary of the second would compare."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import polars as pl

from benchmarks._stream_tables import STREAMS, Stream, write_table
from tidemill.data.arrays import Floats
from tidemill.data.metrics import Truth, losses

FLIGHTS = Path(__file__).parents[1] / "examples" / "flights" / "data" / "flights.parquet"
_FLIGHT_COLUMNS = ("carrier", "origin", "dest", "hour", "weekday", "distance", "scheduled_minutes", "late")
_LARGEST_STREAM = 400_000


class LossSeries(NamedTuple):
    """The losses of a champion and of a challenger on consecutive rows, shape (rows,), and the rows of a day."""

    name: str
    champion: Floats
    challenger: Floats
    rows_per_day: float


def load_series(cache: Path, names: tuple[str, ...] = ()) -> list[LossSeries]:
    """Return series of real streams: an older and a newer model, and a smaller and a larger one, on later rows.

    The models learn the first 45 % of the rows, or parts of them; the newer one learns what the older one does not.
    """
    series: list[LossSeries] = []
    for stream in STREAMS:
        if names and stream.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows = write_table(stream, cache, Path(folder) / "rows.csv")
        series += _compare_models(stream.name, rows, stream.label, _is_regression(stream, rows))
    if not names or "flights" in names:
        flights = pl.read_parquet(FLIGHTS).drop_nulls("late").sort("scheduled_departure")
        columns = [name for name in _FLIGHT_COLUMNS if name in flights.columns]
        rows = flights.select(pl.col("scheduled_departure").alias("time"), *columns)
        series += _compare_models("flights", rows, "late", is_regression=False)
    return series


def _is_regression(stream: Stream, rows: pl.DataFrame) -> bool:
    return stream.task == "regression" or (not stream.task and rows[stream.label].n_unique() > 20)


def _compare_models(name: str, rows: pl.DataFrame, label: str, is_regression: bool) -> list[LossSeries]:
    rows = rows.drop_nulls(label).tail(_LARGEST_STREAM)
    span = (rows["time"].max() - rows["time"].min()).total_seconds() / 86_400  # type: ignore[operator, union-attr]
    inputs = _encode(rows.drop("time", label))
    truth = _encode_label(rows[label], is_regression)
    middle, cut = int(0.3 * len(inputs)), int(0.45 * len(inputs))
    known = set(truth.values[:middle].tolist()) if not is_regression else set()
    test = np.arange(len(inputs)) >= cut
    if not is_regression:
        test &= np.isin(truth.values, list(known))
    parts = {
        "older": (slice(0, middle), 60),
        "newer": (slice(middle // 2, cut), 60),
        "small": (slice(0, cut), 15),
        "large": (slice(0, cut), 60),
    }
    found = {key: _measure(inputs, truth, part, rounds, test, is_regression) for key, (part, rounds) in parts.items()}
    per_day = len(inputs) / span
    return [
        LossSeries(f"{name}, {first} and {second}", found[first], found[second], per_day)
        for first, second in (("older", "newer"), ("small", "large"))
    ]


def _measure(inputs: Floats, truth: Truth, part: slice, rounds: int, test: np.ndarray, is_regression: bool) -> Floats:
    """Return the losses of a model that learned a part of the rows, on the test rows."""
    options: dict[str, Any] = {
        "n_estimators": rounds,
        "num_leaves": 7,
        "learning_rate": 0.1,
        "verbose": -1,
        "n_jobs": 1,
        "seed": 7,
    }
    values = truth.values[test]
    if is_regression:
        model = lightgbm.LGBMRegressor(**options).fit(inputs[part], truth.values[part])
        return losses(Truth("regression", values), np.asarray(model.predict(inputs[test]), dtype=float))
    classifier = lightgbm.LGBMClassifier(**options).fit(inputs[part], truth.values[part])
    scores = np.full((int(test.sum()), len(truth.classes)), 1e-6)
    scores[:, classifier.classes_] = classifier.predict_proba(inputs[test])
    return losses(Truth("classification", values, truth.classes), scores)


def _encode(rows: pl.DataFrame) -> Floats:
    columns = [
        column.cast(pl.Float64) if column.dtype.is_numeric() or column.dtype == pl.Boolean else column.rank("dense")
        for column in rows
    ]
    return np.column_stack([column.cast(pl.Float64).to_numpy() for column in columns])


def _encode_label(label: pl.Series, is_regression: bool) -> Truth:
    if is_regression:
        return Truth("regression", label.cast(pl.Float64).to_numpy())
    names = tuple(str(name) for name in label.unique().sort())
    return Truth("classification", (label.rank("dense") - 1).cast(pl.Int64).to_numpy(), names)
