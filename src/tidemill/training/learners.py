"""Online learners, such as those of river: estimators that learn one row after another, and go on later."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.core.model import PredictionTask
from tidemill.core.policy import Training
from tidemill.data.arrays import Floats
from tidemill.data.learner_rows import LearnerRow, score_learner, to_targets
from tidemill.errors import ConfigurationError

_SEED = "seed"


def is_learner(estimator: Any) -> bool:
    """Return whether an estimator learns one row after another."""
    return hasattr(estimator, "learn_one") and hasattr(estimator, "predict_one") and not hasattr(estimator, "fit")


def seed_learner(learner: Any, seed: int) -> Any:
    """Return a learner of river whose `seed`, and that of the steps of its pipeline, is set where it was None."""
    if not hasattr(learner, "clone"):
        return learner
    steps = getattr(learner, "steps", None)
    if isinstance(steps, dict):
        unset = {name: {_SEED: seed} for name, step in steps.items() if getattr(step, _SEED, seed) is None}
        return learner.clone(unset) if unset else learner
    return learner.clone({_SEED: seed}) if getattr(learner, _SEED, seed) is None else learner


def fit_learner(learner: Any, rows: Sequence[LearnerRow], target: npt.NDArray[Any], policy: Training) -> Any:
    """Learn rows in their order, and return the learner.

    `target` has the index of a class, or a number.

    Raises
    ------
    ConfigurationError
        if the learner is for another task, has no probabilities, or learns two classes and there are more.
    """
    classes = int(target.max()) + 1 if target.dtype.kind in "iu" else 0
    _require_task(learner, "classification" if classes else "regression", classes, policy)
    try:
        learn_rows(learner, rows, target, classes)
        score_learner(learner, rows[:1], classes)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"the learner of [training] estimator = {policy.estimator!r} cannot learn these rows: "
            f"{type(error).__name__}: {error}",
            "a learner that needs numbers gets texts through river.preprocessing.OneHotEncoder, and values that are "
            "missing are absent from its rows",
        ) from error
    except NotImplementedError:
        raise ConfigurationError(
            f"the {type(learner).__name__} of [training] estimator = {policy.estimator!r} has no probabilities",
            "use a learner that has them, such as river.linear_model.LogisticRegression or river.forest.ARFClassifier",
        ) from None
    return learner


def learn_rows(learner: Any, rows: Sequence[LearnerRow], target: npt.NDArray[Any], classes: int) -> None:
    """Learn rows in their order."""
    for row, value in zip(rows, to_targets(target.tolist(), classes), strict=True):
        learner.learn_one(row, value)


def score_then_learn(learner: Any, rows: Sequence[LearnerRow], target: npt.NDArray[Any], classes: int) -> Floats:
    """Learn rows in their order, and return the scores of each row just before it was learned.

    Gama, Sebastião and Rodrigues (2013, "On evaluating stream learning algorithms", section 2): the predictions of a
    learner for rows that it has not learned are an honest test, and no row is lost for it.
    """
    scores = []
    for row, value in zip(rows, to_targets(target.tolist(), classes), strict=True):
        scores.append(score_learner(learner, [row], classes))
        learner.learn_one(row, value)
    return np.concatenate(scores) if scores else score_learner(learner, [], classes)


def _require_task(learner: Any, task: PredictionTask, classes: int, policy: Training) -> None:
    from river import base

    name = type(learner).__name__
    is_classifier = hasattr(learner, "predict_proba_one")
    last = list(learner.steps.values())[-1] if isinstance(getattr(learner, "steps", None), dict) else learner
    if isinstance(last, base.Regressor | base.Classifier):
        is_classifier = isinstance(last, base.Classifier)
    if is_classifier != (task == "classification"):
        raise ConfigurationError(
            f"[training] estimator = {policy.estimator!r} is a {name} for another task than {task}",
            f"use a learner for a {task}",
        )
    if classes > 2 and not getattr(learner, "_multiclass", True):
        raise ConfigurationError(
            f"the {name} of [training] estimator = {policy.estimator!r} learns two classes, and there are {classes}",
            "wrap it: river.multiclass.OneVsRestClassifier(…)",
        )
