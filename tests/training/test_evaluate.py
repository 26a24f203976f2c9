"""Evaluation: classes, truth, the trivial baseline and slices."""

import numpy as np
import polars as pl
import pytest

from tidemill.data.metrics import Truth, losses, measure
from tidemill.errors import ConfigurationError, DataError
from tidemill.training.evaluate import evaluate, find_classes, find_slices, predict_baseline, to_truth


def test_classes_are_sorted_whatever_they_were_read_as() -> None:
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
        with pytest.raises(ConfigurationError, match=f"positive is '{positive}', which is not one of two") as refused:
            find_classes(values, "answer", positive)
        assert "[problem]" in refused.value.cure


@pytest.mark.parametrize(
    ("labels", "said"),
    [([True, True], "one class only: 'true'"), ([None, None], "no values"), (list(range(101)), "101 classes")],
)
def test_labels_that_cannot_be_learned_are_told(labels: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said) as told:
        find_classes(pl.Series("late", labels), "late")
    assert told.value.cure


def test_truth_is_places_or_numbers() -> None:
    truth = to_truth(pl.Series("late", [True, False, True]), "classification", ("false", "true"))
    assert truth.values.tolist() == [1, 0, 1]
    assert to_truth(pl.Series("delay", [1, 2]), "regression", ()).values.tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="class that the model does not know"):
        to_truth(pl.Series("late", ["maybe"]), "classification", ("false", "true"))


def test_the_trivial_baseline_knows_only_shares_or_the_mean() -> None:
    train = Truth("classification", np.array([0, 0, 0, 1]), ("no", "yes"))
    assert predict_baseline(train, 2).tolist() == [[0.75, 0.25]] * 2
    assert predict_baseline(Truth("regression", np.array([1.0, 3.0])), 3).tolist() == [2.0] * 3
    assert losses(train, predict_baseline(train, 4)).mean() == pytest.approx(0.5623, abs=1e-4)


def test_slices_are_the_large_ones() -> None:
    frame = pl.DataFrame({"origin": ["JFK"] * 40 + ["EWR"] * 30 + ["LGA"] * 29 + [None] * 50, "night": [True] * 149})
    found = find_slices(frame, ("origin", "night"))
    assert {name: int(inside.sum()) for name, inside in found.items()} == {
        "origin=JFK": 40,
        "origin=EWR": 30,
        "night=true": 149,
    }
    many = pl.DataFrame({"tail": [f"N{place}" for place in range(60) for _ in range(30)]})
    assert len(find_slices(many, ("tail",))) == 50
    with pytest.raises(DataError, match="no column 'gate' to slice by") as told:
        find_slices(frame, ("gate",))
    assert "slices" in told.value.cure


def test_metrics_of_the_whole_and_of_each_slice() -> None:
    random = np.random.default_rng(1)
    truth = Truth("classification", random.integers(0, 2, 100), ("no", "yes"))
    scores = random.dirichlet((1, 1), 100)
    inside = np.arange(100) < 40
    found = evaluate(truth, scores, {"origin=JFK": inside}, "test")
    assert found.values.items() >= measure(truth, scores).items()
    assert found.intervals["log_loss"][0] < found.values["log_loss"] < found.intervals["log_loss"][1]
    part = measure(Truth("classification", truth.values[inside], truth.classes), scores[inside])
    assert found.slices == {"origin=JFK": {"rows": 40.0, **part}}
    around = found.slice_intervals["origin=JFK"]
    assert set(around) == {"log_loss", "brier", "error_rate"}
    assert around["log_loss"][0] < part["log_loss"] < around["log_loss"][1]
    assert found.about == "test"


def test_a_metric_that_is_no_number_is_left_out() -> None:
    truth = Truth("regression", np.array([1.0, 2.0]))
    assert evaluate(truth, np.array([1.0, np.nan]), {}).values == {}
