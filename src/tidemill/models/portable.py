"""Predicts rows with the model in this folder; it needs only the packages in its requirements.txt.

Every package contains this file as `code/tidemill_model.py`: MLflow or a script loads the model without Tidemill.
"""

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _load_pyfunc(path: str) -> "PortableModel":
    """Load the model; MLflow calls this function."""
    return PortableModel(Path(path))


class PortableModel:
    """The model of a package: `scores` predicts columns, `predict` is the interface of MLflow."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        signature = manifest["signature"]
        self._classes: list[str] = signature["classes"] if signature["task"] == "classification" else []
        self._columns = json.loads((folder / "encoding.json").read_bytes())["columns"]
        self._vocabularies = [
            {word: float(code) for code, word in enumerate(column["vocabulary"])} for column in self._columns
        ]
        self._transformations = (manifest.get("features") or {}).get("transformations") or []
        if self._transformations:
            runner: Any = importlib.import_module("tidemill_transformations")

            self._compute = runner.compute_columns
            self._functions = runner.load_functions(self._transformations)
            self._raw_types = {column["name"]: column["type"] for column in signature["inputs"]}
        self._is_booster = manifest["flavor"] == "lightgbm"
        self._is_learner = manifest["flavor"] == "river"
        form = folder / "estimator.json"
        self._form = json.loads(form.read_bytes())["rows"] if form.exists() else "numbers"
        self._model: Any
        if self._is_booster:
            import lightgbm

            self._model = lightgbm.Booster(model_file=str(folder / "model.txt"))
        else:
            import joblib

            self._model = joblib.load(folder / "model.joblib")

    def predict(self, rows: Any, params: Any = None) -> Any:  # noqa: ARG002 - MLflow passes it
        """Predict a pandas frame, or columns by name: return `prediction` and the probability of each class."""
        columns = {name: rows[name].tolist() if hasattr(rows[name], "tolist") else rows[name] for name in rows}
        scores = self.scores(columns)
        predictions: dict[str, Any] = {"prediction": scores}
        if self._classes:
            predictions = {"prediction": [self._classes[index] for index in scores.argmax(axis=1)]}
            predictions |= {f"probability_{name}": scores[:, index] for index, name in enumerate(self._classes)}
        if not hasattr(rows, "columns"):
            return predictions
        import pandas

        return pandas.DataFrame(predictions, index=rows.index)

    def scores(self, columns: Mapping[str, Iterable[Any]]) -> Floats:
        """Return numbers, shape (rows,), or probabilities in the order of the classes, shape (rows, classes)."""
        rows = {name: list(values) for name, values in columns.items()}
        rows = self._transform(rows) if self._transformations else rows
        matrix = self._encode(rows)
        if not len(matrix):
            return np.zeros((0, len(self._classes)) if self._classes else 0)
        if self._is_booster:
            raw = np.asarray(self._model.predict(matrix, num_threads=1))
            return np.column_stack((1 - raw, raw)) if self._classes and raw.ndim == 1 else raw
        if self._is_learner:
            return self._score_learner(rows, matrix)
        inputs = self._build_rows(rows, matrix)
        if not self._classes:
            return np.asarray(self._model.predict(inputs), dtype=float).ravel()
        table = np.zeros((len(matrix), len(self._classes)))
        table[:, [int(index) for index in self._model.classes_]] = self._model.predict_proba(inputs)
        return table

    def _score_learner(self, columns: dict[str, list[Any]], matrix: Floats) -> Floats:
        """Return the scores of an online learner, which gets a dictionary for each row."""
        learner: Any = importlib.import_module("tidemill_learner")
        names = [column["name"] for column in self._columns if column["kind"] == "category"]
        texts = {
            name: [None if _is_missing(value) else _to_text(value) for value in columns.get(name, [None] * len(matrix))]
            for name in names
        }
        rows = learner.to_learner_rows(matrix, self._list_names(), texts)
        scores: Floats = learner.score_learner(self._model, rows, len(self._classes))
        return scores

    def _build_rows(self, columns: dict[str, list[Any]], matrix: Floats) -> Any:
        """Return the rows in the form that the estimator was fitted on: numbers, or a frame."""
        if self._form == "numbers":
            return matrix
        builder: Any = importlib.import_module("tidemill_rows")
        table = _to_table(columns, {column["name"]: column["type"] for column in self._columns}, len(matrix))
        return builder.to_estimator_rows(self._form, table, matrix, self._list_names())

    def _list_names(self) -> list[str]:
        """Return the names of the columns of the matrix."""
        names: list[str] = []
        for column in self._columns:
            parts = (
                [f"_{part}" for part in column["parts"] or ("hour", "weekday")] if column["kind"] == "time" else [""]
            )
            names += [f"{column['name']}{part}" for part in parts]
        return names

    def _transform(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the columns with those that the transformations compute."""
        height = max(map(len, columns.values()), default=0)
        if not height:
            return columns
        raw = _to_table(columns, self._raw_types, height)
        computed = self._compute(self._transformations, self._functions, raw)
        return {name: computed[name].to_list() for name in computed.columns}

    def _encode(self, columns: dict[str, list[Any]]) -> Floats:
        height = max(map(len, columns.values()), default=0)
        parts: list[list[float]] = []
        for column, vocabulary in zip(self._columns, self._vocabularies, strict=True):
            values = columns.get(column["name"], [None] * height)
            if column["kind"] == "category":
                parts.append([_NAN if _is_missing(v) else vocabulary.get(_to_text(v), -1.0) for v in values])
            elif column["kind"] == "time":
                times = [None if _is_missing(v) else _to_time(v) for v in values]
                for part in column["parts"] or ("hour", "weekday"):
                    parts.append([_NAN if time is None else _read_part(time, part, column["origin"]) for time in times])
            else:
                parts.append([_NAN if _is_missing(v) else float(v) for v in values])
        return np.array(parts, dtype=np.float64).T.reshape(height, len(parts))


_NAN = float("nan")

_POLARS_TYPES = {"boolean": "Boolean", "integer": "Int64", "number": "Float64", "text": "String", "date": "Date"}


def _to_table(columns: Mapping[str, list[Any]], types: Mapping[str, str], height: int) -> Any:
    """Return columns as a Polars frame with these types."""
    import polars

    return polars.DataFrame(
        [
            polars.Series(
                name,
                [None if _is_missing(v) else _READERS[kind](v) for v in columns.get(name, [None] * height)],
                dtype=getattr(polars, _POLARS_TYPES[kind]) if kind != "time" else polars.Datetime("us", "UTC"),
            )
            for name, kind in types.items()
        ]
    )


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pandas' NA, which cannot be compared or tested for truth."""
    return value is None or (str(value) in ("nan", "NaT", "<NA>") and not isinstance(value, str))


def _read_part(time: datetime, part: str, origin: float) -> float:
    if part == "elapsed":
        return (time.replace(tzinfo=None) - datetime(1970, 1, 1)) / timedelta(days=1) - origin
    numbers = {
        "year": time.year,
        "month": time.month,
        "day_of_year": time.timetuple().tm_yday,
        "weekday": time.isoweekday(),
        "hour": time.hour + time.minute / 60,
    }
    return float(numbers[part])


def _to_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _to_time(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    elif isinstance(value, int):  # NumPy's times are nanoseconds
        value = datetime.fromtimestamp(value / 1e9, UTC)
    time: datetime = value
    return time.astimezone(UTC) if time.tzinfo else time


def _to_utc(value: Any) -> datetime:
    time = _to_time(value)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


_READERS: dict[str, Callable[[Any], Any]] = {
    "boolean": bool,
    "integer": int,
    "number": float,
    "text": _to_text,
    "date": lambda value: _to_time(value).date(),
    "time": _to_utc,
}
