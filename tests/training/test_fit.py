"""Fitting LightGBM and scikit-learn: equal for a seed, with errors that name the policy."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tidemill.core.policy import Training
from tidemill.errors import ConfigurationError
from tidemill.training.fit import fit_lightgbm, fit_sklearn

RANDOM = np.random.default_rng(2)
MATRIX = np.column_stack((RANDOM.normal(size=600), RANDOM.integers(0, 4, 600))).astype(float)
MATRIX[::17, 0] = np.nan
TARGET = (np.nan_to_num(MATRIX[:, 0]) + (MATRIX[:, 1] == 2) > 0.5).astype(int)
QUICK = Training(rounds=30, params={"num_threads": 1})


def fit(policy: Training = QUICK, classes: int = 2, target: object = TARGET, **more: object) -> object:
    task = "classification" if classes else "regression"
    return fit_lightgbm(
        MATRIX,
        target,  # type: ignore[arg-type]
        task=task,  # type: ignore[arg-type]
        classes=classes,
        policy=policy,
        names=("wind", "carrier"),
        categorical=(1,),
        **more,  # type: ignore[arg-type]
    )


def test_a_fit_learns_and_is_equal_for_a_seed() -> None:
    first, second = fit(), fit()
    scores = first.predict(MATRIX)  # type: ignore[attr-defined]
    assert np.array_equal(scores, second.predict(MATRIX))  # type: ignore[attr-defined]
    assert ((scores > 0.5) == TARGET).mean() > 0.95


@pytest.mark.parametrize(("classes", "shape"), [(2, (600,)), (4, (600, 4)), (0, (600,))])
def test_each_task_has_its_objective(classes: int, shape: tuple[int, ...]) -> None:
    target = MATRIX[:, 1].astype(int) if classes == 4 else TARGET
    assert np.shape(fit(classes=classes, target=target).predict(MATRIX)) == shape  # type: ignore[attr-defined]


def test_the_number_of_rounds_is_chosen_on_the_validation_rows() -> None:
    noise = RANDOM.integers(0, 2, 600)
    policy = Training(rounds=200, early_stopping=5, params={"num_threads": 1})
    stopped = fit(policy, target=noise, validation=(MATRIX, RANDOM.integers(0, 2, 600)))
    assert stopped.current_iteration() < 60  # type: ignore[attr-defined]
    assert fit(policy).current_iteration() == 200  # type: ignore[attr-defined]
    assert fit(policy, rounds=7).current_iteration() == 7  # type: ignore[attr-defined]
    empty = (MATRIX[:0], TARGET[:0])
    assert fit(QUICK, validation=empty).current_iteration() == 30  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("alias", "name", "value"),
    [("min_child_samples", "min_data_in_leaf", 250), ("reg_lambda", "lambda_l2", 50.0), ("lambda", "lambda_l2", 50.0)],
)
def test_a_parameter_may_have_any_of_its_names(alias: str, name: str, value: float) -> None:
    target = np.digitize(np.nan_to_num(MATRIX[:, 0]), [-0.5, 0.5])
    by_alias, by_name, default = (
        fit(Training(rounds=5, params=params), classes=3, target=target).predict(MATRIX)  # type: ignore[attr-defined]
        for params in ({alias: value}, {name: value}, {})
    )
    assert np.array_equal(by_alias, by_name)
    assert not np.array_equal(by_alias, default)


@pytest.mark.parametrize("seed", range(3))
def test_many_classes_with_few_rows_do_not_diverge(seed: int) -> None:
    """Points around fifty towns, some with very few points: too many rounds make the model only slightly worse."""
    random = np.random.default_rng(seed)
    towns = random.uniform(0, 20, (50, 2))
    labels = random.choice(50, 3_000, p=(shares := 1 / np.arange(1, 51)) / shares.sum())
    _, labels = np.unique(labels, return_inverse=True)
    matrix = towns[labels] + random.normal(0, 0.7, (3_000, 2))
    names, classes = ("east", "north"), int(labels.max()) + 1

    def measure_loss(rounds: int) -> float:
        model = fit_lightgbm(
            matrix[:2_400],
            labels[:2_400],
            task="classification",
            classes=classes,
            policy=Training(rounds=rounds),
            names=names,
            categorical=(),
        )
        scores = np.asarray(model.predict(matrix[2_400:]))
        return float(-np.log(scores[np.arange(600), labels[2_400:]].clip(1e-15)).mean())

    assert measure_loss(60) < measure_loss(15) + 0.3


def test_parameters_that_lightgbm_rejects_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="LightGBM rejected") as error:
        fit(Training(rounds=2, params={"num_leaves": -3}))
    assert "[training] params" in error.value.cure


def test_any_class_with_the_interface_of_scikit_learn_is_fitted() -> None:
    matrix = np.nan_to_num(MATRIX)
    policy = Training(estimator="sklearn.linear_model:Ridge", params={"alpha": 3.0})
    estimator = fit_sklearn(matrix, TARGET, policy=policy)
    assert isinstance(estimator, Ridge)
    assert np.allclose(estimator.predict(matrix), Ridge(alpha=3.0).fit(matrix, TARGET).predict(matrix))


@pytest.mark.parametrize("name", ["lightgmb", "sklearn.nowhere:Ridge", "sklearn.linear_model:Rigde", ":", ""])
def test_an_unknown_estimator_is_an_error(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no estimator") as error:
        fit_sklearn(MATRIX, TARGET, policy=Training(estimator=name))
    assert "module:Class" in error.value.cure


def test_parameters_that_the_estimator_rejects_are_an_error() -> None:
    policy = Training(estimator="sklearn.linear_model:Ridge", params={"depth": 3})
    with pytest.raises(ConfigurationError, match=r"Ridge rejects its parameters: .*depth"):
        fit_sklearn(MATRIX, TARGET, policy=policy)
