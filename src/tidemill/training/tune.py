"""Searches parameters with Optuna, within a time budget, on training and validation rows only."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.clock import parse_duration
from tidemill.core.policy import Choice, Training
from tidemill.data.arrays import Floats
from tidemill.data.metrics import Truth, losses
from tidemill.errors import ConfigurationError, DataError, MissingExtra
from tidemill.training.estimators import EstimatorRows, fit_estimator
from tidemill.training.fit import fit_lightgbm

# The most important parameters, according to the tuning guide of LightGBM.
_LIGHTGBM: dict[str, Choice] = {
    "num_leaves": [7, 127],
    "learning_rate": [0.01, 0.3],
    "min_data_in_leaf": [5, 200],
    "feature_fraction": [0.5, 1.0],
    "lambda_l2": [0.001, 10.0],
}


class SearchTrial(Struct, frozen=True, kw_only=True):
    """One set of parameters: its mean loss on the validation rows, and the duration of its fit.

    The loss is None if it is not finite; `refused` is the reason if the estimator rejected the parameters.
    """

    params: dict[str, Any]
    loss: float | None
    seconds: float
    refused: str = ""


class SearchResult(Struct, frozen=True, kw_only=True):
    """The result of a search: the best parameters, and all trials in their order."""

    params: dict[str, Any]
    loss: float
    trials: list[SearchTrial]


class LabeledMatrix(Struct, frozen=True):
    """A matrix, shape (rows, columns), and the truth of its rows; `table` has the typed columns before the encoding."""

    matrix: Floats
    truth: Truth
    table: pl.DataFrame | None = None

    def to_estimator_rows(self, names: tuple[str, ...]) -> EstimatorRows:
        """Return the rows in the forms for estimators with scikit-learn's interface."""
        return EstimatorRows(self.matrix, names, self.table)


def tune(
    train: LabeledMatrix,
    validation: LabeledMatrix,
    *,
    policy: Training,
    names: tuple[str, ...],
    categorical: tuple[int, ...],
) -> SearchResult:
    """Return the best parameters within the budget; the policy's own parameters are the first trial.

    Raises
    ------
    MissingExtra
        if Optuna is not installed.
    DataError
        without validation rows.
    ConfigurationError
        if no trial could be fitted, or there is nothing to search.
    """
    search = policy.search
    assert search is not None
    if not len(validation.truth.values):
        raise DataError("there are no validation rows to search on", "set validation under [training] above 0")
    optuna = _import_optuna()
    space = search.space or (_LIGHTGBM if policy.estimator == "lightgbm" else {})
    if not space:
        raise ConfigurationError(
            f"the search for {policy.estimator} has no space",
            "set one: [training.search] space = { max_depth = [2, 12] }",
        )
    trials: list[SearchTrial] = []

    def run_trial(params: dict[str, Any]) -> float | None:
        start = time.perf_counter()
        loss, refused = None, ""
        try:
            value = _measure_loss(train, validation, replace(policy, params=policy.params | params), names, categorical)
            loss = value if np.isfinite(value) else None
        except (ConfigurationError, ValueError) as error:
            if not params:
                raise  # the policy's own parameters, with which a training without a search would fail, too
            refused = str(error)
        trials.append(SearchTrial(params=params, loss=loss, seconds=time.perf_counter() - start, refused=refused))
        return loss

    def run_suggested(trial: Any) -> float:
        loss = run_trial({name: _suggest(trial, name, choice) for name, choice in space.items()})
        if loss is None:
            raise optuna.TrialPruned
        return loss

    run_trial({})
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=policy.seed))
    study.optimize(run_suggested, n_trials=search.trials, timeout=parse_duration(search.budget).total_seconds())
    suggested = trials[1:]
    if suggested and all(trial.refused for trial in suggested):
        raise ConfigurationError(
            f"the estimator rejected every trial of the search: {suggested[0].refused}",
            "correct [training.search] space",
        )
    losses_by_index = {index: trial.loss for index, trial in enumerate(trials) if trial.loss is not None}
    if not losses_by_index:
        raise ConfigurationError("no trial of the search has a finite loss", "correct [training.search] space")
    best = min(losses_by_index, key=lambda index: losses_by_index[index])
    return SearchResult(params=trials[best].params, loss=losses_by_index[best], trials=trials)


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise MissingExtra("optuna", "search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _suggest(trial: Any, name: str, choice: Choice) -> Any:
    """Suggest a value: two numbers are a range (logarithmic above a factor of ten), other values a choice."""
    numbers = [value for value in choice if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(choice) != 2 or len(numbers) != 2:
        return trial.suggest_categorical(name, choice)
    low, high = numbers
    log = low > 0 and high / low >= 10
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, float(low), float(high), log=log)


def _measure_loss(
    train: LabeledMatrix,
    validation: LabeledMatrix,
    policy: Training,
    names: tuple[str, ...],
    categorical: tuple[int, ...],
) -> float:
    truth = validation.truth
    target = train.truth.values
    if policy.estimator == "lightgbm":
        validation_data: tuple[Floats, npt.NDArray[Any]] | None = (validation.matrix, truth.values)
        booster = fit_lightgbm(
            train.matrix,
            target,
            task=truth.task,
            classes=len(truth.classes),
            policy=policy,
            names=names,
            categorical=categorical,
            validation=validation_data if policy.early_stopping else None,
        )
        raw = np.asarray(booster.predict(validation.matrix))
        scores = np.column_stack((1 - raw, raw)) if len(truth.classes) == 2 else raw
    else:
        fitted = fit_estimator(train.to_estimator_rows(names), target, policy=policy, task=truth.task)
        scores = fitted.score(validation.to_estimator_rows(names), truth)
    return float(losses(truth, scores).mean())
