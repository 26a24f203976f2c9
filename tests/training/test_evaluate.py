"""Evaluation: classes, truth, the trivial baseline and slices."""

import numpy as np
import polars as pl
import pytest

from tidemill.data.metrics import Truth, losses, measure
from tidemill.errors import ConfigurationError, DataError
from tidemill.training.evaluate import (
    evaluate,
    find_classes,
    find_slices,
    predict_baseline,
    require_finite_labels,
    to_truth,
)


def test_classes_are_sorted_for_every_type_of_label() -> None:
    assert find_classes(pl.Series("late", [True, False, None]), "late") == ("false", "true")
    assert find_classes(pl.Series("late", [1.0, 0.0]), "late") == ("0", "1")
    assert find_classes(pl.Series("late", ["b", "a", "c"]), "late") == ("a", "b", "c")


def test_classes_that_are_numbers_are_in_the_order_of_their_values() -> None:
    assert find_classes(pl.Series("grade", [9, 10, 1]), "grade") == ("1", "9", "10")
    assert find_classes(pl.Series("grade", ["10", "9", "-1.5"]), "grade") == ("-1.5", "9", "10")
    assert find_classes(pl.Series("grade", ["10", "9", "nan"]), "grade") == ("10", "9", "nan")


def test_the_positive_class_is_the_last_of_two_and_can_be_set() -> None:
    labels = pl.Series("answer", ["no", "yes"])
    assert find_classes(labels, "answer") == ("no", "yes")
    assert find_classes(labels, "answer", "no") == ("yes", "no")
    for positive, values in (("maybe", labels), ("a", pl.Series(["a", "b", "c"]))):
        with pytest.raises(ConfigurationError, match=f"positive is '{positive}', which is not one of two") as error:
            find_classes(values, "answer", positive)
        assert "[problem]" in error.value.cure


@pytest.mark.parametrize(
    ("labels", "message"),
    [([True, True], "only one class: 'true'"), ([None, None], "no values"), (list(range(101)), "101 classes")],
)
def test_unusable_labels_are_an_error(labels: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        find_classes(pl.Series("late", labels), "late")
    assert error.value.cure


def test_truth_is_class_indices_or_numbers() -> None:
    truth = to_truth(pl.Series("late", [True, False, True]), "classification", ("false", "true"))
    assert truth.values.tolist() == [1, 0, 1]
    assert to_truth(pl.Series("delay", [1, 2]), "regression", ()).values.tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="class that the model was not trained on"):
        to_truth(pl.Series("late", ["maybe"]), "classification", ("false", "true"))


def test_the_trivial_baseline_predicts_the_shares_or_the_mean() -> None:
    train = Truth("classification", np.array([0, 0, 0, 1]), ("no", "yes"))
    assert predict_baseline(train, 2).tolist() == [[0.75, 0.25]] * 2
    assert predict_baseline(Truth("regression", np.array([1.0, 3.0])), 3).tolist() == [2.0] * 3
    assert losses(train, predict_baseline(train, 4)).mean() == pytest.approx(0.5623, abs=1e-4)


def test_only_large_slices_are_evaluated() -> None:
    frame = pl.DataFrame({"origin": ["JFK"] * 40 + ["EWR"] * 30 + ["LGA"] * 29 + [None] * 50, "night": [True] * 149})
    slices = find_slices(frame, ("origin", "night"))
    assert {name: int(mask.sum()) for name, mask in slices.items()} == {
        "origin=JFK": 40,
        "origin=EWR": 30,
        "night=true": 149,
    }
    many = pl.DataFrame({"tail": [f"N{number}" for number in range(60) for _ in range(30)]})
    assert len(find_slices(many, ("tail",))) == 50
    with pytest.raises(DataError, match="no column 'gate' to slice by") as error:
        find_slices(frame, ("gate",))
    assert "slices" in error.value.cure


def test_metrics_are_computed_for_all_rows_and_each_slice() -> None:
    random = np.random.default_rng(1)
    truth = Truth("classification", random.integers(0, 2, 100), ("no", "yes"))
    scores = random.dirichlet((1, 1), 100)
    inside = np.arange(100) < 40
    metrics = evaluate(truth, scores, {"origin=JFK": inside}, "test")
    assert metrics.values.items() >= measure(truth, scores).items()
    assert metrics.intervals["log_loss"][0] < metrics.values["log_loss"] < metrics.intervals["log_loss"][1]
    part = measure(Truth("classification", truth.values[inside], truth.classes), scores[inside])
    assert metrics.slices == {"origin=JFK": {"rows": 40.0, **part}}
    around = metrics.slice_intervals["origin=JFK"]
    assert set(around) == {"log_loss", "brier", "error_rate"}
    assert around["log_loss"][0] < part["log_loss"] < around["log_loss"][1]
    assert metrics.about == "test"


def test_a_metric_that_is_not_finite_is_omitted() -> None:
    truth = Truth("regression", np.array([1.0, 2.0]))
    assert evaluate(truth, np.array([1.0, np.nan]), {}).values == {}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_a_label_that_no_model_can_learn_is_refused(value: float) -> None:
    truth = to_truth(pl.Series("y", [0.5, value, 1.0]), "regression", ())
    with pytest.raises(DataError, match="'y' has 1 value that no model can learn"):
        require_finite_labels(truth, "y")
