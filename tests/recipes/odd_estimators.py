"""Estimators that the gate must stop; a package contains this file, as it would a project's module."""

import time
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression


class _Good:
    def fit(self, matrix: Any, target: Any) -> "_Good":
        self.inner = LogisticRegression(max_iter=500).fit(np.nan_to_num(matrix[:, :2]), target)
        self.classes_ = self.inner.classes_
        return self

    def predict(self, matrix: Any) -> Any:
        return self.classes_[self.predict_proba(matrix).argmax(axis=1)]

    def predict_proba(self, matrix: Any) -> Any:
        return self.inner.predict_proba(np.nan_to_num(matrix[:, :2]))


class Good(_Good):
    """A good estimator of the project."""


class PartlyNan(_Good):
    """It predicts NaN for some rows."""

    def predict_proba(self, matrix: Any) -> Any:
        probabilities = super().predict_proba(matrix)
        probabilities[matrix[:, 0] > 600] = np.nan
        return probabilities


class Noisy(_Good):
    """It predicts differently each time."""

    def predict_proba(self, matrix: Any) -> Any:
        noise = np.random.default_rng().normal(0, 0.01, len(matrix))
        positive = np.clip(super().predict_proba(matrix)[:, 1] + noise, 0, 1)
        return np.column_stack((1 - positive, positive))


class ImportsPandas(_Good):
    """It imports a package that is not in its lock."""

    def predict_proba(self, matrix: Any) -> Any:
        import pandas

        return super().predict_proba(pandas.DataFrame(matrix).to_numpy())


class Slow(_Good):
    """It predicts slowly."""

    def predict_proba(self, matrix: Any) -> Any:
        time.sleep(0.02)
        return super().predict_proba(matrix)


class Large(_Good):
    """It stores a large array."""

    def fit(self, matrix: Any, target: Any) -> "_Good":
        self.array = np.random.default_rng(0).normal(size=300_000)
        return super().fit(matrix, target)
