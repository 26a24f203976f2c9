"""Fits an estimator: LightGBM by default, or any class with the interface of scikit-learn."""

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.core.model import PredictionTask
from tidemill.core.policy import Training
from tidemill.data.arrays import Floats
from tidemill.errors import ConfigurationError
from tidemill.host.boosting import import_lightgbm
from tidemill.training.estimators import EstimatorRows, fit_estimator
from tidemill.training.seeds import LIGHTGBM_SEEDS

_LARGE_TABLE = 20_000
_LEAF_ROWS = 20
_QUIET = {"verbosity": -1, "deterministic": True}
_MOST_ROW_WISE = 200  # columns


def fit_lightgbm(
    matrix: Floats,
    target: npt.NDArray[Any],
    *,
    task: PredictionTask,
    classes: int,
    policy: Training,
    names: tuple[str, ...],
    categorical: tuple[int, ...],
    validation: tuple[Floats, npt.NDArray[Any]] | None = None,
    rounds: int | None = None,
) -> Any:
    """Fit a LightGBM booster.

    Parameters
    ----------
    matrix : shape (rows, columns), NaN where missing.
    target : shape (rows,): class indices, or numbers.
    validation : rows that determine the number of rounds; without them it is `rounds` or the policy's.

    Raises
    ------
    ConfigurationError
        if LightGBM rejects a parameter of the policy, or does not support it.
    """
    lightgbm = import_lightgbm()
    _check_parameter_names(policy.params)
    objective: dict[str, Any] = {"objective": "regression"}
    if task == "classification":
        objective = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    defaults = _choose_leaf_parameters(len(matrix), classes)
    # For a small table, synchronizing threads takes longer than the work itself.
    defaults |= {"num_threads": 1} if len(matrix) < _LARGE_TABLE else {}
    params = {
        **objective,
        **_QUIET,
        **_choose_histograms(matrix.shape[1], {**defaults, **policy.params}),
        **({} if LIGHTGBM_SEEDS & set(policy.params) else {"seed": policy.seed}),
        **{name: value for name, value in defaults.items() if not _ALIASES[name] & set(policy.params)},
        **policy.params,
    }
    data = lightgbm.Dataset(
        matrix,
        target,
        feature_name=[f"f{index}" for index in range(len(names))],
        categorical_feature=list(categorical),
        params=params,
        free_raw_data=True,
    )
    validation_sets: list[Any] = []
    callbacks: list[Any] = []
    if validation is not None and len(validation[1]):
        validation_sets = [lightgbm.Dataset(validation[0], validation[1], reference=data, params=params)]
        callbacks = [lightgbm.early_stopping(policy.early_stopping, verbose=False)]
    try:
        return lightgbm.train(params, data, rounds or policy.rounds, valid_sets=validation_sets, callbacks=callbacks)
    except lightgbm.basic.LightGBMError as error:
        raise ConfigurationError(
            f"LightGBM rejected the parameters: {error}", "correct [training] params in tidemill.toml"
        ) from None


def _choose_histograms(columns: int, params: dict[str, Any]) -> dict[str, bool]:
    """Return how histograms are built: on one thread by rows, which takes a fifth less time for some dozen columns.

    One thread adds the same numbers in the same order by rows and by columns, and any number of threads by columns, so
    that the trees are equal. Several threads by rows would add parts.
    """
    if {"force_row_wise", "force_col_wise"} & set(params):
        return {}
    threads = next((params[name] for name in ("num_threads", *_ALIASES["num_threads"]) if name in params), 0)
    has_one_thread = threads == 1 or (threads == 0 and os.environ.get("OMP_NUM_THREADS") == "1")
    return {"force_row_wise" if has_one_thread and columns <= _MOST_ROW_WISE else "force_col_wise": True}


class _Logger:
    """A logger for LightGBM that passes its messages to a function."""

    def __init__(self, receive: Callable[[str], object] = print) -> None:
        self.info = self.warning = receive


def _check_parameter_names(params: dict[str, Any]) -> None:
    """Raise `ConfigurationError` for a parameter that LightGBM does not support; LightGBM itself only warns."""
    lightgbm = import_lightgbm()
    messages: list[str] = []
    lightgbm.register_logger(_Logger(messages.append))
    try:
        lightgbm.Dataset(np.zeros((2, 1)), params={**params, "verbosity": 0}).construct()
    except lightgbm.basic.LightGBMError:
        pass  # an invalid value, which the fit reports
    finally:
        lightgbm.register_logger(_Logger())
    if unknown := re.search(r"Unknown parameter: (\S+)", "\n".join(messages)):
        raise ConfigurationError(
            f"LightGBM has no parameter {unknown[1]!r}", "correct its spelling in [training] params in tidemill.toml"
        )


# LightGBM ignores an alias if the parameter is set by its own name, too.
_ALIASES = {
    "min_data_in_leaf": {"min_data_per_leaf", "min_data", "min_child_samples", "min_samples_leaf"},
    "lambda_l2": {"reg_lambda", "lambda", "l2_regularization"},
    "num_threads": {"num_thread", "nthread", "nthreads", "n_jobs"},
}


def _choose_leaf_parameters(rows: int, classes: int) -> dict[str, float]:
    """Return LightGBM's own leaf size of 20 rows; for a small table smaller leaves, with shrunken values.

    With more than two classes, leaves are shrunken too: the rows of a rare class have second derivatives near zero, and
    without a penalty their leaves grow without bounds. A fit on a few more rows then diverges.
    """
    size = max(5, min(_LEAF_ROWS, rows // 20))
    return {"min_data_in_leaf": size, **({"lambda_l2": 1.0} if size < _LEAF_ROWS or classes > 2 else {})}


def fit_sklearn(matrix: Floats, target: npt.NDArray[Any], *, policy: Training) -> Any:
    """Fit an estimator on numbers, of the class that the policy names as `module:Class`, with the policy's seed.

    Raises
    ------
    ConfigurationError
        if there is no such class, or it rejects the parameters of the policy.
    """
    return fit_estimator(EstimatorRows(matrix), target, policy=policy).estimator
