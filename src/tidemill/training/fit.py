"""Fits an estimator: LightGBM by default, or any class with scikit-learn's interface."""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.core.model import Task
from tidemill.core.policy import Training
from tidemill.errors import ConfigurationError
from tidemill.training.seeds import LIGHTGBM_SEEDS, global_seed, seed_estimator

Floats = npt.NDArray[np.float64]
_LARGE = 20_000
_QUIET = {"verbosity": -1, "deterministic": True, "force_col_wise": True}


def fit_lightgbm(
    matrix: Floats,
    target: npt.NDArray[Any],
    *,
    task: Task,
    classes: int,
    policy: Training,
    names: tuple[str, ...],
    categorical: tuple[int, ...],
    validation: tuple[Floats, npt.NDArray[Any]] | None = None,
    rounds: int | None = None,
) -> Any:
    """A LightGBM booster.

    Parameters
    ----------
    matrix : shape (rows, columns), NaN where missing.
    target : shape (rows,): class numbers, or numbers.
    validation : rows on which the number of rounds is chosen; without them it is `rounds` or the policy's.

    Raises
    ------
    ConfigurationError
        if it does not take the policy's parameters, or does not know one.
    """
    import lightgbm

    _hold_names(policy.params)
    objective: dict[str, Any] = {"objective": "regression"}
    if task == "classification":
        objective = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    # Threads that wait for each other cost more than a small table does.
    threads = {"num_threads": 1} if len(matrix) < _LARGE else {}
    params = {
        **objective,
        **_QUIET,
        **threads,
        **({} if LIGHTGBM_SEEDS & set(policy.params) else {"seed": policy.seed}),
        "min_data_in_leaf": _least(len(matrix)),
        **policy.params,
    }
    data = lightgbm.Dataset(
        matrix,
        target,
        feature_name=[f"f{place}" for place in range(len(names))],
        categorical_feature=list(categorical),
        params=params,
        free_raw_data=True,
    )
    held: list[Any] = []
    callbacks: list[Any] = []
    if validation is not None and len(validation[1]):
        held = [lightgbm.Dataset(validation[0], validation[1], reference=data, params=params)]
        callbacks = [lightgbm.early_stopping(policy.early_stopping, verbose=False)]
    try:
        return lightgbm.train(params, data, rounds or policy.rounds, valid_sets=held, callbacks=callbacks)
    except lightgbm.basic.LightGBMError as refused:
        raise ConfigurationError(
            f"LightGBM refused the parameters: {refused}", "mend [training] params in tidemill.toml"
        ) from None


class _Heard:
    """What LightGBM says, where it would print it."""

    def __init__(self, hear: Callable[[str], object] = print) -> None:
        self.info = self.warning = hear


def _hold_names(params: dict[str, Any]) -> None:
    """Refuse parameters that LightGBM would pass over: it says so where it may, and goes on."""
    import lightgbm

    said: list[str] = []
    lightgbm.register_logger(_Heard(said.append))
    try:
        lightgbm.Dataset(np.zeros((2, 1)), params={**params, "verbosity": 0}).construct()
    except lightgbm.basic.LightGBMError:
        pass  # a value, of which the fit tells
    finally:
        lightgbm.register_logger(_Heard())
    if unknown := re.search(r"Unknown parameter: (\S+)", "\n".join(said)):
        raise ConfigurationError(
            f"LightGBM knows no parameter {unknown[1]!r}", "mend [training] params in tidemill.toml: check its spelling"
        )


def _least(rows: int) -> int:
    """The least rows in a leaf: LightGBM's 20, or fewer for a small table."""
    return max(2, min(20, rows // 50))


def fit_sklearn(matrix: Floats, target: npt.NDArray[Any], *, policy: Training) -> Any:
    """An estimator of the class that the policy names as `module:Class`, fitted with the policy's seed.

    Raises
    ------
    ConfigurationError
        if there is no such class, or it does not take the policy's parameters.
    """
    module, _, name = policy.estimator.partition(":")
    try:
        make = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigurationError(
            f"there is no estimator {policy.estimator!r}",
            'write "lightgbm", or module:Class, such as "sklearn.ensemble:HistGradientBoostingClassifier"',
        ) from None
    with global_seed(policy.seed):
        try:
            estimator = make(**policy.params)
        except TypeError as wrong:
            raise ConfigurationError(
                f"{name} does not take its parameters: {wrong}", "mend [training] params"
            ) from None
        seed_estimator(estimator, policy.seed)
        return estimator.fit(matrix, target)
