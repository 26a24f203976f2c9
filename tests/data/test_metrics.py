"""Metrics agree with scikit-learn, and intervals cover as often as they say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from tidemill.data.metrics import (
    Truth,
    bootstrap_interval,
    intervals,
    losses,
    measure,
    measure_more,
    roc_auc,
    roc_curve,
    standard_error,
    worse_by,
)
from tidemill.errors import DataError

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classification_agrees_with_scikit_learn(classes: int) -> None:
    scores = RANDOM.dirichlet(np.ones(classes), 500)
    values = RANDOM.integers(0, classes, 500)
    truth = Truth("classification", values, tuple(map(str, range(classes))))
    found = measure(truth, scores)
    assert found["log_loss"] == pytest.approx(reference.log_loss(values, scores, labels=range(classes)))
    assert found["error_rate"] == pytest.approx(1 - reference.accuracy_score(values, scores.argmax(axis=1)))
    assert losses(truth, scores).mean() == pytest.approx(found["log_loss"])
    if classes == 2:
        assert found["brier"] == pytest.approx(reference.brier_score_loss(values, scores[:, 1]))
        assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(values, scores[:, 1]))
    else:
        assert "roc_auc" not in found


@given(
    classes=st.integers(2, 5),
    rows=st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, 8), min_size=5, max_size=5)), min_size=1),
)
@settings(deadline=None)
def test_classification_agrees_with_scikit_learn_whatever_classes_occur(
    classes: int, rows: list[tuple[int, list[int]]]
) -> None:
    """With ties, of one row, and where a class occurs on one side only, or on none."""
    values = np.array([value % classes for value, _ in rows])
    scores = np.array([weights[:classes] for _, weights in rows], dtype=float) + 0.01
    scores /= scores.sum(axis=1, keepdims=True)
    message = scores.argmax(axis=1)
    truth = Truth("classification", values, tuple(map(str, range(classes))))
    found = measure(truth, scores) | measure_more(truth, scores)
    expected = {
        "log_loss": reference.log_loss(values, scores, labels=range(classes)),
        "error_rate": 1 - reference.accuracy_score(values, message),
        "brier": ((scores - np.eye(classes)[values]) ** 2).sum(axis=1).mean() / (2 if classes == 2 else 1),
    }
    if classes > 2:
        expected["f1"] = reference.f1_score(values, message, average="macro", zero_division=0.0)
        areas = [_area(values == place, scores[:, place]) for place in range(classes)]
        if any(area is not None for area in areas):
            expected["roc_auc"] = np.mean([area for area in areas if area is not None])
    else:
        scored = {"precision": reference.precision_score, "recall": reference.recall_score, "f1": reference.f1_score}
        expected |= {name: score(values, message, zero_division=0.0) for name, score in scored.items()}
        if values.any():
            expected["average_precision"] = reference.average_precision_score(values, scores[:, 1])
        if (area := _area(values == 1, scores[:, 1])) is not None:
            expected["roc_auc"] = area
    assert found == pytest.approx(expected)


def _area(positive: np.ndarray[tuple[int], np.dtype[np.bool_]], scores: np.ndarray[tuple[int], Any]) -> float | None:
    return float(reference.roc_auc_score(positive, scores)) if 0 < positive.sum() < len(positive) else None


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.5, -1e100, 1e-100]) | st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1
    )
)
@settings(deadline=None)
def test_numbers_agree_with_scikit_learn(rows: list[tuple[float, float]]) -> None:
    values, scores = np.array(rows).T
    truth = Truth("regression", values)
    found = measure(truth, scores) | measure_more(truth, scores)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(values, scores))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(values, scores))
    assert found["median_error"] == pytest.approx(reference.median_absolute_error(values, scores))
    if "r2" in found:
        assert found["r2"] == pytest.approx(reference.r2_score(values, scores))


def test_f1_over_classes_is_over_those_that_occur() -> None:
    values = np.array([0, 0, 1, 1, 0, 1])
    truth = Truth("classification", values, ("a", "b", "c"))
    assert measure_more(truth, np.eye(3)[values] * 0.8 + 0.1)["f1"] == 1.0
    wrong = measure_more(truth, np.eye(3)[[0, 0, 1, 1, 0, 2]] * 0.8 + 0.1)["f1"]
    assert wrong == pytest.approx(reference.f1_score(values, [0, 0, 1, 1, 0, 2], average="macro"))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
@settings(deadline=None)
def test_roc_auc_agrees_with_scikit_learn_on_ties(rows: list[tuple[bool, int]]) -> None:
    positive, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    if 0 < positive.sum() < len(positive):
        assert roc_auc(positive, scores) == pytest.approx(reference.roc_auc_score(positive, scores))


def test_regression_agrees_with_scikit_learn() -> None:
    values, scores = RANDOM.normal(size=300), RANDOM.normal(size=300)
    found = measure(Truth("regression", values), scores)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(values, scores))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(values, scores))
    assert found["r2"] == pytest.approx(reference.r2_score(values, scores))
    assert losses(Truth("regression", values), scores).mean() == pytest.approx(found["rmse"] ** 2)


def test_what_cannot_be_measured_is_left_out() -> None:
    one_class = Truth("classification", np.ones(5, dtype=int), ("no", "yes"))
    assert "roc_auc" not in measure(one_class, np.full((5, 2), 0.5))
    assert "r2" not in measure(Truth("regression", np.ones(5)), np.zeros(5))
    with pytest.raises(DataError, match="no rows") as raised:
        measure(Truth("regression", np.empty(0)), np.empty(0))
    assert raised.value.cure


def test_a_certain_error_costs_much_and_not_endlessly() -> None:
    truth = Truth("classification", np.array([1]), ("no", "yes"))
    assert 30 < losses(truth, np.array([[1.0, 0.0]]))[0] < 40


def test_worse_is_above_zero_whichever_way_a_metric_points() -> None:
    assert worse_by("log_loss", 0.6, 0.5) == pytest.approx(0.1)
    assert worse_by("roc_auc", 0.6, 0.7) == pytest.approx(0.1)
    assert worse_by("rmse", 0.4, 0.5) < 0 < worse_by("r2", 0.4, 0.5)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_cover_the_mean_as_often_as_they_say(confidence: float) -> None:
    """400 samples of 500: the observed share is within 4.5 standard errors, wrong once in 10^5 runs by chance."""
    covered = 0
    for seed in range(400):
        sample = np.random.default_rng(seed).exponential(1.0, 500)
        low, high = bootstrap_interval(sample, confidence)
        covered += low <= 1.0 <= high
    assert abs(covered / 400 - confidence) < 4.5 * np.sqrt(confidence * (1 - confidence) / 400) + 0.01


def test_an_interval_is_the_same_for_a_seed_and_holds_the_mean_of_many_rows() -> None:
    sample = RANDOM.normal(3.0, 1.0, 50_000)
    low, high = bootstrap_interval(sample, 0.95)
    assert (low, high) == bootstrap_interval(sample, 0.95)
    assert low < sample.mean() < high
    assert high - low < 0.07


def test_the_further_metrics_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(4)
    late = random.random(600) < 0.3
    scores = np.round(np.clip(random.normal(0.35 + 0.2 * late, 0.2), 0, 1), 2)  # with ties
    table = np.asarray(np.column_stack((1 - scores, scores)), float)
    message = scores > 0.5
    found = measure_more(Truth("classification", late.astype(int), ("no", "yes")), table)
    assert found == pytest.approx(
        {
            "precision": reference.precision_score(late, message),
            "recall": reference.recall_score(late, message),
            "f1": reference.f1_score(late, message),
            "average_precision": reference.average_precision_score(late, scores),
        }
    )
    kinds = random.integers(0, 3, 600)
    shares = np.asarray(random.dirichlet((1, 1, 1), 600) + np.eye(3)[kinds] * 0.3, float)
    shares /= shares.sum(axis=1, keepdims=True)
    found = measure_more(Truth("classification", kinds, ("a", "b", "c")), shares)
    assert found["f1"] == pytest.approx(reference.f1_score(kinds, shares.argmax(axis=1), average="macro"))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(kinds, shares, multi_class="ovr"))
    wrong, right, _ = reference.roc_curve(late, scores, drop_intermediate=False)
    assert np.allclose(roc_curve(late, np.asarray(scores, float)), (wrong, right))


@pytest.mark.parametrize("metric", ["log_loss", "brier", "error_rate", "roc_auc"])
def test_a_standard_error_is_how_far_the_metric_moves(metric: str) -> None:
    random = np.random.default_rng(3)
    estimates, seen = [], []
    for _ in range(300):
        chance = random.uniform(0.05, 0.95, 400)
        truth = Truth("classification", (random.random(400) < chance).astype(int), ("no", "yes"))
        scores = np.column_stack((1 - chance, chance))
        estimates.append(standard_error(metric, truth, scores))
        seen.append(measure(truth, scores)[metric])
    assert np.mean(estimates) == pytest.approx(np.std(seen), rel=0.15)


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_a_standard_error_of_numbers(metric: str) -> None:
    random = np.random.default_rng(3)
    estimates, seen = [], []
    for _ in range(300):
        truth = Truth("regression", random.normal(size=400))
        estimates.append(standard_error(metric, truth, np.zeros(400)))
        seen.append(measure(truth, np.zeros(400))[metric])
    assert np.mean(estimates) == pytest.approx(np.std(seen), rel=0.15)


def test_no_standard_error_where_none_is_known() -> None:
    truth = Truth("classification", np.array([0, 1, 1]), ("no", "yes"))
    scores = np.array([[0.5, 0.5], [0.4, 0.6], [0.2, 0.8]])
    assert standard_error("f1", truth, scores) == 0.0
    assert standard_error("log_loss", truth, scores * np.nan) == 0.0
    assert standard_error("roc_auc", Truth("classification", np.array([1, 1, 1]), ("no", "yes")), scores) == 0.0


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """200 samples of 300 rows each from scores whose metrics are known."""
    random = np.random.default_rng(8)
    late = random.random(200_000) < 0.4
    scores = np.clip(random.normal(0.4 + 0.15 * late, 0.15), 0.01, 0.99)
    whole = Truth("classification", late.astype(int), ("no", "yes"))
    true = measure(whole, np.column_stack((1 - scores, scores)))
    inside = dict.fromkeys(("log_loss", "brier", "error_rate", "roc_auc"), 0)
    for place in range(200):
        rows = slice(place * 300, place * 300 + 300)
        part = Truth("classification", whole.values[rows], whole.classes)
        found = intervals(part, np.column_stack((1 - scores[rows], scores[rows])), 0.9)
        for name in inside:
            inside[name] += found[name][0] <= true[name] <= found[name][1]
    assert all(165 <= count <= 195 for count in inside.values()), inside
    errors = intervals(Truth("regression", np.arange(50.0)), np.arange(50.0) + 2, 0.9)
    assert errors["rmse"] == errors["mae"] == pytest.approx((2, 2))
