"""Answers for rows with the model in this folder; it needs only the packages that requirements.txt beside it names.

Every package carries this file as `code/tidemill_model.py`: MLflow, or three lines of Python, ask it without Tidemill.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _load_pyfunc(path: str) -> "PortableModel":
    """MLflow's entry."""
    return PortableModel(Path(path))


class PortableModel:
    """The model of a package: `scores` of columns, or `predict` as MLflow asks it."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        signature = manifest["signature"]
        self._classes: list[str] = signature["classes"] if signature["task"] == "classification" else []
        self._columns = json.loads((folder / "encoding.json").read_bytes())["columns"]
        self._vocabularies = [{word: float(place) for place, word in enumerate(c["vocabulary"])} for c in self._columns]
        self._boosted = manifest["flavor"] == "lightgbm"
        self._model: Any
        if self._boosted:
            import lightgbm

            self._model = lightgbm.Booster(model_file=str(folder / "model.txt"))
        else:
            import joblib

            self._model = joblib.load(folder / "model.joblib")

    def predict(self, rows: Any, params: Any = None) -> Any:  # noqa: ARG002 - MLflow's
        """The answers to a pandas frame, or to columns by name: `prediction`, and the probability of each class."""
        columns = {name: rows[name].tolist() if hasattr(rows[name], "tolist") else rows[name] for name in rows}
        scores = self.scores(columns)
        found: dict[str, Any] = {"prediction": scores}
        if self._classes:
            found = {"prediction": [self._classes[place] for place in scores.argmax(axis=1)]}
            found |= {f"probability_{name}": scores[:, place] for place, name in enumerate(self._classes)}
        if not hasattr(rows, "columns"):
            return found
        import pandas

        return pandas.DataFrame(found, index=rows.index)

    def scores(self, columns: Mapping[str, Iterable[Any]]) -> Floats:
        """Numbers, shape (rows,), or probabilities in the order of the signature's classes, shape (rows, classes)."""
        matrix = self._matrix({name: list(values) for name, values in columns.items()})
        if not len(matrix):
            return np.zeros((0, len(self._classes)) if self._classes else 0)
        if self._boosted:
            raw = np.asarray(self._model.predict(matrix, num_threads=1))
            return np.column_stack((1 - raw, raw)) if self._classes and raw.ndim == 1 else raw
        if not self._classes:
            return np.asarray(self._model.predict(matrix), dtype=float).ravel()
        table = np.zeros((len(matrix), len(self._classes)))
        table[:, [int(place) for place in self._model.classes_]] = self._model.predict_proba(matrix)
        return table

    def _matrix(self, columns: dict[str, list[Any]]) -> Floats:
        height = max(map(len, columns.values()), default=0)
        parts: list[list[float]] = []
        for column, vocabulary in zip(self._columns, self._vocabularies, strict=True):
            values = columns.get(column["name"], [None] * height)
            if column["kind"] == "category":
                parts.append([_NAN if _is_missing(v) else vocabulary.get(_text(v), -1.0) for v in values])
            elif column["kind"] == "time":
                moments = [None if _is_missing(v) else _moment(v) for v in values]
                parts.append([_NAN if m is None else m.hour + m.minute / 60 for m in moments])
                parts.append([_NAN if m is None else float(m.isoweekday()) for m in moments])
            else:
                parts.append([_NAN if _is_missing(v) else float(v) for v in values])
        return np.array(parts, dtype=np.float64).T.reshape(height, len(parts))


_NAN = float("nan")


def _is_missing(value: Any) -> bool:
    """None, NaN, NaT and pandas' NA, which is equal to nothing and not even false."""
    return value is None or (str(value) in ("nan", "NaT", "<NA>") and not isinstance(value, str))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _moment(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    elif isinstance(value, int):  # as NumPy gives times of nanoseconds
        value = datetime.fromtimestamp(value / 1e9, UTC)
    moment: datetime = value
    return moment.astimezone(UTC) if moment.tzinfo else moment
