"""A search for parameters: within its budget, better than where it began, and never on test rows."""

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


def rows(begin: int, end: int) -> LabeledMatrix:
    return LabeledMatrix(MATRIX[begin:end], Truth("classification", TARGET[begin:end], ("no", "yes")))


def search(policy: Training, validation: LabeledMatrix | None = None) -> SearchResult:
    held = rows(400, 600) if validation is None else validation
    return tune(rows(0, 400), held, policy=policy, names=("a", "b", "c"), categorical=())


TREE = Training(
    estimator="sklearn.tree:DecisionTreeClassifier",
    params={"random_state": 0, "max_depth": 1},
    search=Search(trials=12, budget="1m", space={"max_depth": [2, 6], "criterion": ["gini", "entropy", "log_loss"]}),
)


def test_it_finds_better_parameters_and_keeps_every_trial() -> None:
    found = search(TREE)
    assert len(found.trials) == 13
    assert found.trials[0].params == {}
    assert found.loss == lowest(found) < (found.trials[0].loss or 0)
    assert 2 <= found.params["max_depth"] <= 6
    assert [trial.params for trial in search(TREE).trials] == [trial.params for trial in found.trials]


def lowest(found: SearchResult) -> float:
    return min(trial.loss for trial in found.trials if trial.loss is not None)


def test_a_trial_that_is_not_taken_is_one_of_many() -> None:
    some = replace(TREE, search=Search(trials=12, space={"criterion": ["gini", "nonsense"], "max_depth": [2, 6]}))
    found = search(some)
    refused = [trial for trial in found.trials if trial.refused]
    assert 0 < len(refused) < 12
    assert all(trial.loss is None and trial.params["criterion"] == "nonsense" for trial in refused)
    assert found.loss == lowest(found)
    with pytest.raises(ConfigurationError, match="no trial of the search was taken: The 'criterion'"):
        search(replace(some, search=Search(trials=3, space={"criterion": ["nonsense", "none"]})))
    with pytest.raises((ConfigurationError, ValueError), match="max_depth"):
        search(replace(TREE, params={"max_depth": -3}))


def test_lightgbm_has_a_space_of_its_own() -> None:
    found = search(Training(rounds=20, search=Search(trials=3)))
    assert set(found.trials[1].params) == {
        "num_leaves", "learning_rate", "min_data_in_leaf", "feature_fraction", "lambda_l2"
    }  # fmt: skip


def test_no_trial_begins_after_the_budget() -> None:
    began = time.monotonic()
    found = search(replace(TREE, search=Search(trials=100_000, budget="1s", space={"max_depth": [2, 6]})))
    assert 2 <= len(found.trials) < 100_000
    assert time.monotonic() - began < 30, "a bound on hanging, not a timing"


def test_what_cannot_be_searched_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no validation rows"):
        search(TREE, rows(600, 600))
    with pytest.raises(ConfigurationError, match="nothing to search"):
        search(replace(TREE, search=Search()))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match="optuna is not installed"):
        search(TREE)
