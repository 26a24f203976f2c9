"""The same rows, parameters and seed give the same model, whatever estimator it is; another seed gives another."""

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


class Lucky(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator of a project that draws from the global generators."""

    def fit(self, matrix: Any, target: Any) -> "Lucky":  # noqa: ARG002 - as scikit-learn calls it
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


def answers(estimator: str, seed: int, **params: Any) -> list[float]:
    policy = Training(estimator=f"{__name__}:{estimator}", seed=seed, params=params)
    return fit_sklearn(MATRIX, TARGET, policy=policy).predict_proba(MATRIX)[:, 1].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("estimator", ["forest", "piped", "voting", "bagging", "calibrated", "lightgbm_class", "Lucky"])
def test_a_seed_gives_the_same_model_and_another_seed_another(estimator: str) -> None:
    assert answers(estimator, 7) == answers(estimator, 7)
    assert answers(estimator, 7) != answers(estimator, 8)


def test_a_random_state_that_is_set_stays() -> None:
    assert answers("forest", 7, random_state=1) == answers("forest", 8, random_state=1)


def test_the_global_generators_go_on_where_they_were() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).random()
    answers("Lucky", 7)
    assert (random.random(), np.random.random()) == expected


def test_a_seed_of_lightgbm_by_another_of_its_names_is_used() -> None:
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
