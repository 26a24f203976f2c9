"""Equal rows, parameters and seeds result in equal models for every estimator; another seed in another model."""

import random
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import ExtraTreeClassifier

from tidemill.core.policy import Training
from tidemill.training.fit import fit_lightgbm, fit_sklearn

RANDOM = np.random.default_rng(5)
MATRIX = RANDOM.normal(size=(300, 4))
TARGET = (RANDOM.random(300) < 1 / (1 + np.exp(-2 * MATRIX[:, 0]))).astype(int)


class RandomEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator of a project that draws from the global generators."""

    def fit(self, matrix: Any, target: Any) -> "RandomEstimator":  # noqa: ARG002 - scikit-learn passes it
        self.classes_ = np.unique(target)
        self.chance_ = (np.random.random() + random.random()) / 2
        return self

    def predict_proba(self, matrix: Any) -> Any:
        return np.tile([1 - self.chance_, self.chance_], (len(matrix), 1))


def forest(**params: Any) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=5, **params)


def piped() -> Any:
    return make_pipeline(StandardScaler(), forest())


def voting() -> Any:
    return VotingClassifier([("linear", LogisticRegression()), ("tree", piped())], voting="soft")


def bagging() -> Any:
    return BaggingClassifier(ExtraTreeClassifier(), n_estimators=5)


def calibrated() -> Any:
    return CalibratedClassifierCV(LogisticRegression(), cv=StratifiedKFold(3, shuffle=True))


def lightgbm_class() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=5, bagging_fraction=0.5, bagging_freq=1, verbosity=-1, n_jobs=1)


def fit_and_predict(estimator: str, seed: int, **params: Any) -> list[float]:
    policy = Training(estimator=f"{__name__}:{estimator}", seed=seed, params=params)
    return fit_sklearn(MATRIX, TARGET, policy=policy).predict_proba(MATRIX)[:, 1].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "estimator", ["forest", "piped", "voting", "bagging", "calibrated", "lightgbm_class", "RandomEstimator"]
)
def test_equal_seeds_result_in_equal_models(estimator: str) -> None:
    assert fit_and_predict(estimator, 7) == fit_and_predict(estimator, 7)
    assert fit_and_predict(estimator, 7) != fit_and_predict(estimator, 8)


def test_an_explicit_random_state_is_kept() -> None:
    assert fit_and_predict("forest", 7, random_state=1) == fit_and_predict("forest", 8, random_state=1)


def test_the_state_of_the_global_generators_is_restored() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).random()
    fit_and_predict("RandomEstimator", 7)
    assert (random.random(), np.random.random()) == expected


def test_every_name_of_the_lightgbm_seed_is_used() -> None:
    def fitted(**params: Any) -> list[float]:
        policy = Training(
            seed=3, rounds=5, params={"bagging_fraction": 0.5, "bagging_freq": 1, "num_threads": 1, **params}
        )
        booster = fit_lightgbm(
            MATRIX, TARGET, task="classification", classes=2, policy=policy, names=tuple("abcd"), categorical=()
        )
        return booster.predict(MATRIX).tolist()  # type: ignore[no-any-return]

    assert fitted(random_state=3) == fitted()
    assert fitted(random_state=4) == fitted(seed=4) != fitted()
