"""Fits estimators with scikit-learn's interface on rows in the form that they accept: numbers, or a named frame."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill.core.model import PredictionTask
from tidemill.core.policy import Training
from tidemill.data.arrays import Floats
from tidemill.data.estimator_rows import RowForm, has_pandas, to_estimator_rows
from tidemill.data.learner_rows import score_learner, to_learner_rows
from tidemill.data.metrics import Truth
from tidemill.errors import ConfigurationError, MissingExtra
from tidemill.training.learners import fit_learner, is_learner, seed_learner
from tidemill.training.seeds import seed_estimator, use_global_seed

FitForm = RowForm | Literal["learner"]
"""The form of the rows of an estimator, or the dictionaries of an online learner."""


class EstimatorRows(Struct, frozen=True):
    """Rows in the forms for estimators: a matrix of numbers with the names of its columns, and typed columns."""

    matrix: Floats
    names: tuple[str, ...] = ()
    table: pl.DataFrame | None = None

    def to_form(self, form: FitForm) -> Any:
        """Return the rows in a form."""
        table = pl.DataFrame() if self.table is None else self.table
        if form == "learner":
            texts = {values.name: values.to_list() for values in table if values.dtype == pl.String}
            return to_learner_rows(self.matrix, self.names, texts)
        return to_estimator_rows(form, table, self.matrix, self.names)


class FittedEstimator(Struct, frozen=True):
    """A fitted estimator, and the form of its rows."""

    estimator: Any
    form: FitForm

    def score(self, rows: EstimatorRows, truth: Truth) -> Floats:
        """Return its numbers, or its probabilities with the classes of a truth; an unlearned class has 0."""
        inputs = rows.to_form(self.form)
        if self.form == "learner":
            return score_learner(self.estimator, inputs, len(truth.classes))
        if truth.task == "regression":
            return np.asarray(self.estimator.predict(inputs), dtype=float).reshape(len(rows.matrix))
        table = np.zeros((len(rows.matrix), len(truth.classes)))
        table[:, [int(index) for index in self.estimator.classes_]] = self.estimator.predict_proba(inputs)
        return table


def create_estimator(policy: Training) -> Any:
    """Return a new estimator of the class or function that the policy names as `module:Class`, with its seed.

    Raises
    ------
    ConfigurationError
        if there is no such class, it rejects the parameters of the policy, or it is no estimator.
    MissingExtra
        if river is not installed.
    """
    module, _, name = policy.estimator.partition(":")
    try:
        estimator_class = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as missing:
        if isinstance(missing, ModuleNotFoundError) and (missing.name or "").partition(".")[0] == "river":
            raise MissingExtra("river", "online") from None
        raise ConfigurationError(
            f"there is no estimator {policy.estimator!r}",
            'write "lightgbm", or module:Class, such as "sklearn.ensemble:HistGradientBoostingClassifier"',
        ) from None
    try:
        estimator = estimator_class(**policy.params)
    except TypeError as error:
        raise ConfigurationError(
            f"{name} rejects its parameters: {error}", "correct [training] params in tidemill.toml"
        ) from None
    if is_learner(estimator):
        return seed_learner(estimator, policy.seed)
    if not hasattr(estimator, "fit"):
        raise ConfigurationError(
            f"the {type(estimator).__name__} of [training] estimator = {policy.estimator!r} learns from no labels",
            "name an estimator with fit() and predict(), or an online learner with learn_one() and predict_one()",
        )
    seed_estimator(estimator, policy.seed)
    return estimator


def fit_estimator(
    rows: EstimatorRows, target: npt.NDArray[Any], *, policy: Training, task: PredictionTask | None = None
) -> FittedEstimator:
    """Fit an estimator on rows in the first form that it accepts.

    With `frame = "auto"`, an estimator that selects columns by name, such as a ColumnTransformer, gets a frame of typed
    columns; another one gets numbers, and if it rejects them a frame. Without a table of typed columns, only numbers
    are tried. If all forms fail, the error of the first one is raised. An online learner gets the rows one by one, in
    their order.

    Raises
    ------
    ConfigurationError
        if there is no such class, or it rejects the parameters of the policy; if a classifier has no probabilities; if
        the policy names pandas, which is not installed, or the estimator rejects a Polars frame and pandas is not
        installed.
    """
    with use_global_seed(policy.seed):
        estimator = create_estimator(policy)
        if is_learner(estimator):
            return FittedEstimator(fit_learner(estimator, rows.to_form("learner"), target, policy), "learner")
        selects = selects_columns(estimator)
    errors: list[Exception] = []
    forms: list[RowForm] = ["numbers"] if rows.table is None else list(_list_forms(policy, selects=selects))
    for form in forms:
        with use_global_seed(policy.seed):
            estimator = create_estimator(policy)
            try:
                estimator = estimator.fit(rows.to_form(form), target) or estimator
            except Exception as error:  # noqa: BLE001 - an estimator may raise anything for rows of another form
                errors.append(error)
                continue
        _require_probabilities(estimator, policy, task)
        return FittedEstimator(estimator, form)
    if selects and not has_pandas() and policy.frame == "auto":
        raise ConfigurationError(
            f"{policy.estimator} cannot be fitted on a Polars frame: {errors[0]}",
            "correct it; if it needs a pandas frame: pip install 'tidemill[pandas]'",
        ) from errors[0]
    raise errors[0]


def selects_columns(estimator: Any) -> bool:
    """Return whether an estimator, or a part of it, selects columns by name, by type or with a function."""
    for part in _list_parts(estimator):
        for _, _, columns in getattr(part, "transformers", None) or ():
            members = columns if isinstance(columns, list | tuple) else [columns]
            if any(isinstance(member, str) or callable(member) for member in members):
                return True
    return False


def _list_parts(estimator: Any) -> Iterator[Any]:
    yield estimator
    if hasattr(estimator, "get_params") and not isinstance(estimator, type):
        yield from (value for value in estimator.get_params(deep=True).values() if not isinstance(value, type))


def _list_forms(policy: Training, *, selects: bool) -> Iterator[RowForm]:
    """Yield the forms to try, in their order."""
    if policy.frame == "pandas" and not has_pandas():
        raise ConfigurationError(
            '[training] frame = "pandas", and pandas is not installed', "pip install 'tidemill[pandas]'"
        )
    if policy.frame != "auto":
        yield policy.frame
        return
    is_catboost = "catboost" in policy.estimator.lower()
    if not selects:
        yield "numbers"
    yield "catboost" if is_catboost else "polars"
    if not selects:
        yield "polars-numbers"
    if has_pandas():
        yield "pandas"


def _require_probabilities(estimator: Any, policy: Training, task: PredictionTask | None) -> None:
    if task == "classification" and not (hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")):
        name = type(estimator).__name__
        raise ConfigurationError(
            f"the {name} of [training] estimator = {policy.estimator!r} has no probabilities",
            "set its option for them (SVC: probability = true), or write a function in a module of the project that "
            f'returns sklearn.calibration.CalibratedClassifierCV({name}()), and name it: estimator = "module:function"',
        )
