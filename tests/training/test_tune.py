"""A parameter search: within its budget, better than its start, and never on test rows."""

import sys
import time

import numpy as np
import pytest
from msgspec.structs import replace

from tidemill.core.policy import Search, Training
from tidemill.data.metrics import Truth
from tidemill.errors import ConfigurationError, DataError, MissingExtra
from tidemill.training.tune import LabeledMatrix, SearchResult, tune

RANDOM = np.random.default_rng(12)
MATRIX = RANDOM.normal(size=(600, 3))
TARGET = (np.sin(2 * MATRIX[:, 0]) + MATRIX[:, 1] * MATRIX[:, 2] + RANDOM.normal(0, 0.3, 600) > 0).astype(int)


def rows(start: int, end: int) -> LabeledMatrix:
    return LabeledMatrix(MATRIX[start:end], Truth("classification", TARGET[start:end], ("no", "yes")))


def search(policy: Training, validation: LabeledMatrix | None = None) -> SearchResult:
    validation_rows = rows(400, 600) if validation is None else validation
    return tune(rows(0, 400), validation_rows, policy=policy, names=("a", "b", "c"), categorical=())


TREE = Training(
    estimator="sklearn.tree:DecisionTreeClassifier",
    params={"random_state": 0, "max_depth": 1},
    search=Search(trials=12, budget="1m", space={"max_depth": [2, 6], "criterion": ["gini", "entropy", "log_loss"]}),
)


def test_the_search_finds_better_parameters_and_keeps_every_trial() -> None:
    result = search(TREE)
    assert len(result.trials) == 13
    assert result.trials[0].params == {}
    assert result.loss == lowest(result) < (result.trials[0].loss or 0)
    assert 2 <= result.params["max_depth"] <= 6
    assert [trial.params for trial in search(TREE).trials] == [trial.params for trial in result.trials]


def lowest(result: SearchResult) -> float:
    return min(trial.loss for trial in result.trials if trial.loss is not None)


def test_a_rejected_trial_does_not_stop_the_search() -> None:
    some = replace(TREE, search=Search(trials=12, space={"criterion": ["gini", "nonsense"], "max_depth": [2, 6]}))
    result = search(some)
    refused = [trial for trial in result.trials if trial.refused]
    assert 0 < len(refused) < 12
    assert all(trial.loss is None and trial.params["criterion"] == "nonsense" for trial in refused)
    assert result.loss == lowest(result)
    with pytest.raises(ConfigurationError, match="the estimator rejected every trial of the search: The 'criterion'"):
        search(replace(some, search=Search(trials=3, space={"criterion": ["nonsense", "none"]})))
    with pytest.raises((ConfigurationError, ValueError), match="max_depth"):
        search(replace(TREE, params={"max_depth": -3}))


def test_lightgbm_has_a_default_space() -> None:
    result = search(Training(rounds=20, search=Search(trials=3)))
    assert set(result.trials[1].params) == {
        "num_leaves", "learning_rate", "min_data_in_leaf", "feature_fraction", "lambda_l2"
    }  # fmt: skip


def test_no_trial_starts_after_the_budget() -> None:
    start = time.monotonic()
    result = search(replace(TREE, search=Search(trials=100_000, budget="1s", space={"max_depth": [2, 6]})))
    assert 2 <= len(result.trials) < 100_000
    assert time.monotonic() - start < 300, "a limit for a hang, not a measurement"


def test_a_search_without_rows_space_or_optuna_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no validation rows"):
        search(TREE, rows(600, 600))
    with pytest.raises(ConfigurationError, match="has no space"):
        search(replace(TREE, search=Search()))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match="optuna is not installed"):
        search(TREE)
