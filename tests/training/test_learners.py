"""Online learners: what they get, their seed, and what is refused with a cure."""

from typing import Any

import numpy as np
import pytest
from river import linear_model, tree

from tidemill.core.policy import Training
from tidemill.data.learner_rows import score_learner, to_learner_rows
from tidemill.errors import ConfigurationError
from tidemill.training.estimators import EstimatorRows, FittedEstimator, create_estimator, fit_estimator
from tidemill.training.learners import score_then_learn

RANDOM = np.random.default_rng(3)
MATRIX = RANDOM.normal(size=(300, 2))
NAMES = ("wind", "seats")
LATE = (MATRIX[:, 0] > 0).astype(np.int64)


def fit(estimator: str, target: Any = LATE, **params: Any) -> FittedEstimator:
    policy = Training(estimator=estimator, params=params, seed=7)
    return fit_estimator(EstimatorRows(MATRIX, NAMES), target, policy=policy)


def test_a_row_lacks_what_is_missing_and_keeps_its_texts() -> None:
    rows = to_learner_rows(np.array([[1.0, 0.0], [np.nan, np.nan]]), ("a", "b"), {"b": ["x", None]})
    assert rows == [{"a": 1.0, "b": "x"}, {}]


def test_a_class_that_was_never_learned_has_probability_0_and_before_all_are_equal() -> None:
    learner: Any = tree.HoeffdingTreeClassifier()
    assert score_learner(learner, [{"a": 1.0}], 3).tolist() == [[1 / 3, 1 / 3, 1 / 3]]
    learner.learn_one({"a": 1.0}, 2)
    assert score_learner(learner, [{"a": 1.0}], 3).tolist() == [[0.0, 0.0, 1.0]]
    assert score_learner(learner, [], 3).shape == (0, 3)


def test_a_learner_is_recognized_and_learns_in_order() -> None:
    fitted = fit("river.linear_model:LogisticRegression")
    assert fitted.form == "learner"
    alone = linear_model.LogisticRegression()
    for row, late in zip(MATRIX.tolist(), LATE.tolist(), strict=True):
        alone.learn_one(dict(zip(NAMES, row, strict=True)), bool(late))
    assert dict(fitted.estimator.weights) == dict(alone.weights)


@pytest.mark.parametrize("estimator", ["river.forest:ARFClassifier", "tests.training.test_learners:create_pipeline"])
def test_a_learner_without_a_seed_gets_that_of_the_policy(estimator: str) -> None:
    params = {"n_models": 3} if "forest" in estimator else {}
    rows = [dict(zip(NAMES, row, strict=True)) for row in MATRIX[:50].tolist()]
    first, again = (score_learner(fit(estimator, **params).estimator, rows, 2) for _ in range(2))
    assert (first == again).all()


def create_pipeline() -> Any:
    from river import forest, preprocessing

    return preprocessing.StandardScaler() | forest.ARFClassifier(n_models=3)


def test_scores_before_learning_are_those_of_the_learner_before_each_row() -> None:
    rows = [dict(zip(NAMES, row, strict=True)) for row in MATRIX[:40].tolist()]
    learner: Any = linear_model.LogisticRegression()
    alone: Any = linear_model.LogisticRegression()
    scores = score_then_learn(learner, rows, LATE[:40], 2)
    for index, row in enumerate(rows):
        assert scores[index, 1] == pytest.approx(alone.predict_proba_one(row)[True])
        alone.learn_one(row, bool(LATE[index]))


@pytest.mark.parametrize(
    ("estimator", "target", "problem"),
    [
        ("river.linear_model:LinearRegression", LATE, "is a LinearRegression for another task than classification"),
        ("river.linear_model:LogisticRegression", MATRIX[:, 0], "for another task than regression"),
        ("river.linear_model:LogisticRegression", np.arange(300) % 3, "learns two classes, and there are 3"),
        ("river.preprocessing:StandardScaler", LATE, "the StandardScaler of .* learns from no labels"),
    ],
)
def test_a_learner_that_does_not_fit_is_refused_with_a_cure(estimator: str, target: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        fit(estimator, target)
    assert refused.value.cure


def test_a_search_scores_learners_too() -> None:
    fitted = fit("river.linear_model:LogisticRegression")
    from tidemill.data.metrics import Truth

    scores = fitted.score(EstimatorRows(MATRIX, NAMES), Truth("classification", LATE, ("no", "yes")))
    assert scores.shape == (300, 2)
    assert ((scores[:, 1] > 0.5) == LATE).mean() > 0.8
    assert create_estimator(Training(estimator="river.linear_model:LogisticRegression")) is not None
