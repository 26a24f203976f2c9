"""Estimators that no gate may let through; a package carries this file, as it would a project's own."""

import time
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression


class _Usual:
    def fit(self, matrix: Any, target: Any) -> "_Usual":
        self.inner = LogisticRegression(max_iter=500).fit(np.nan_to_num(matrix[:, :2]), target)
        self.classes_ = self.inner.classes_
        return self

    def predict(self, matrix: Any) -> Any:
        return self.classes_[self.predict_proba(matrix).argmax(axis=1)]

    def predict_proba(self, matrix: Any) -> Any:
        return self.inner.predict_proba(np.nan_to_num(matrix[:, :2]))


class Usual(_Usual):
    """A good one of one's own."""


class Holes(_Usual):
    """It has no answer for some rows."""

    def predict_proba(self, matrix: Any) -> Any:
        answers = super().predict_proba(matrix)
        answers[matrix[:, 0] > 600] = np.nan
        return answers


class Noisy(_Usual):
    """It answers otherwise each time."""

    def predict_proba(self, matrix: Any) -> Any:
        noise = np.random.default_rng().normal(0, 0.01, len(matrix))
        positive = np.clip(super().predict_proba(matrix)[:, 1] + noise, 0, 1)
        return np.column_stack((1 - positive, positive))


class Needy(_Usual):
    """It needs a package that it does not tell of."""

    def predict_proba(self, matrix: Any) -> Any:
        import pandas

        return super().predict_proba(pandas.DataFrame(matrix).to_numpy())


class Slow(_Usual):
    """It thinks for a while."""

    def predict_proba(self, matrix: Any) -> Any:
        time.sleep(0.02)
        return super().predict_proba(matrix)


class Large(_Usual):
    """It keeps all that it has seen, and more."""

    def fit(self, matrix: Any, target: Any) -> "_Usual":
        self.kept = np.random.default_rng(0).normal(size=300_000)
        return super().fit(matrix, target)
