"""Searches parameters with Optuna, within a budget of time, on training and validation rows only."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from tidemill.clock import parse_duration
from tidemill.core.model import Task
from tidemill.core.policy import Choice, Training
from tidemill.data.metrics import Floats, Truth, losses
from tidemill.errors import ConfigurationError, DataError, MissingExtra
from tidemill.training.fit import fit_lightgbm, fit_sklearn

# What matters most in LightGBM, by its own guide to tuning.
_LIGHTGBM: dict[str, Choice] = {
    "num_leaves": [7, 127],
    "learning_rate": [0.01, 0.3],
    "min_data_in_leaf": [5, 200],
    "feature_fraction": [0.5, 1.0],
    "lambda_l2": [0.001, 10.0],
}


class SearchTrial(Struct, frozen=True, kw_only=True):
    """One set of parameters that was tried: its mean loss on the validation rows, and how long it took.

    A set that gave no finite loss has none; `refused` says why, where the estimator did not take it.
    """

    params: dict[str, Any]
    loss: float | None
    seconds: float
    refused: str = ""


class SearchResult(Struct, frozen=True, kw_only=True):
    """What a search came to: the best parameters, and every trial in its order."""

    params: dict[str, Any]
    loss: float
    trials: list[SearchTrial]


class LabeledMatrix(Struct, frozen=True):
    """A matrix, shape (rows, columns), and the truth of its rows."""

    matrix: Floats
    truth: Truth


def tune(
    train: LabeledMatrix,
    validation: LabeledMatrix,
    *,
    policy: Training,
    names: tuple[str, ...],
    categorical: tuple[int, ...],
) -> SearchResult:
    """The best parameters that the budget found; the policy's own are the first trial, and stay where none is better.

    Raises
    ------
    MissingExtra
        if Optuna is not installed.
    DataError
        without validation rows.
    ConfigurationError
        where no trial could be fitted, or there is nothing to search.
    """
    search = policy.search
    assert search is not None
    if not len(validation.truth.values):
        raise DataError("there are no validation rows to search on", "set validation under [training] above 0")
    optuna = _optuna()
    space = search.space or (_LIGHTGBM if policy.estimator == "lightgbm" else {})
    if not space:
        raise ConfigurationError(
            f"there is nothing to search for {policy.estimator}",
            "write a space: [training.search] space = { max_depth = [2, 12] }",
        )
    trials: list[SearchTrial] = []

    def try_params(params: dict[str, Any]) -> float | None:
        began = time.perf_counter()
        loss, refused = None, ""
        try:
            found = _loss(train, validation, replace(policy, params=policy.params | params), names, categorical)
            loss = found if np.isfinite(found) else None
        except (ConfigurationError, ValueError) as no:
            if not params:
                raise  # the policy's own, which a training without a search would fail on as well
            refused = str(no)
        trials.append(SearchTrial(params=params, loss=loss, seconds=time.perf_counter() - began, refused=refused))
        return loss

    def suggested(trial: Any) -> float:
        loss = try_params({name: _suggest(trial, name, choice) for name, choice in space.items()})
        if loss is None:
            raise optuna.TrialPruned
        return loss

    try_params({})
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=policy.seed))
    study.optimize(suggested, n_trials=search.trials, timeout=parse_duration(search.budget).total_seconds())
    tried = trials[1:]
    if tried and all(one.refused for one in tried):
        raise ConfigurationError(
            f"no trial of the search was taken: {tried[0].refused}", "mend [training.search] space"
        )
    losses_of = {place: one.loss for place, one in enumerate(trials) if one.loss is not None}
    if not losses_of:
        raise ConfigurationError("no trial of the search gave answers", "mend [training.search] space")
    best = min(losses_of, key=lambda place: losses_of[place])
    return SearchResult(params=trials[best].params, loss=losses_of[best], trials=trials)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise MissingExtra("optuna", "search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _suggest(trial: Any, name: str, choice: Choice) -> Any:
    """Two numbers are a range, on a logarithmic scale where it spans a factor of ten; anything else a choice."""
    numbers = [one for one in choice if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(choice) != 2 or len(numbers) != 2:
        return trial.suggest_categorical(name, choice)
    low, high = numbers
    log = low > 0 and high / low >= 10
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, float(low), float(high), log=log)


def _loss(
    train: LabeledMatrix,
    validation: LabeledMatrix,
    policy: Training,
    names: tuple[str, ...],
    categorical: tuple[int, ...],
) -> float:
    truth = validation.truth
    target = train.truth.values
    if policy.estimator == "lightgbm":
        held: tuple[Floats, npt.NDArray[Any]] | None = (validation.matrix, truth.values)
        booster = fit_lightgbm(
            train.matrix,
            target,
            task=truth.task,
            classes=len(truth.classes),
            policy=policy,
            names=names,
            categorical=categorical,
            validation=held if policy.early_stopping else None,
        )
        raw = np.asarray(booster.predict(validation.matrix))
        scores = np.column_stack((1 - raw, raw)) if len(truth.classes) == 2 else raw
    else:
        fitted = fit_sklearn(train.matrix, target, policy=policy)
        scores = _scores_of(fitted, validation.matrix, truth.task, len(truth.classes))
    return float(losses(truth, scores).mean())


def _scores_of(estimator: Any, matrix: Floats, task: Task, classes: int) -> Floats:
    if task == "regression":
        return np.asarray(estimator.predict(matrix), dtype=float)
    table = np.zeros((len(matrix), classes))
    table[:, [int(place) for place in estimator.classes_]] = estimator.predict_proba(matrix)
    return table
