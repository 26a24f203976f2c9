"""The estimate without labels: right as long as the concept stays, wrong under concept drift, and marked as such."""

import numpy as np
import pytest

from tidemill.checks.label_free import VALIDITY, estimate_without_labels
from tidemill.data.arrays import Floats, Ints
from tidemill.data.metrics import Truth, losses

CLASSES = ("no", "yes", "maybe")


def draw(rows: int, seed: int, classes: int = 2) -> tuple[Floats, Ints]:
    """True probabilities of classes, and labels drawn from them."""
    random = np.random.default_rng(seed)
    raised = np.exp(1.5 * random.normal(size=(rows, classes)))
    shares = raised / raised.sum(axis=1, keepdims=True)
    return shares, (shares.cumsum(axis=1) < random.random(rows)[:, None]).sum(axis=1)


def measure(metric: str, scores: Floats, labels: Ints) -> float:
    if metric == "error_rate":
        return float((scores.argmax(axis=1) != labels).mean())
    return float(losses(Truth("classification", labels, CLASSES[: scores.shape[1]]), scores).mean())


@pytest.mark.parametrize("metric", ["log_loss", "error_rate"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_interval_covers_the_measured_value_of_a_calibrated_model(metric: str, classes: int) -> None:
    covered = 0
    for seed in range(100):
        scores, labels = draw(500, seed, classes)
        none = Truth("classification", np.empty(0, int), CLASSES[:classes])
        found = estimate_without_labels(metric, scores, none, np.empty((0, classes)), 0.95)
        assert found is not None
        covered += found.low <= measure(metric, scores, labels) <= found.high
    assert covered >= 88


@pytest.mark.parametrize("classes", [2, 3])
def test_labels_calibrate_an_overconfident_model(classes: int) -> None:
    shares, labels = draw(6_000, 1, classes)
    scores = shares**3 / (shares**3).sum(axis=1, keepdims=True)
    truth = Truth("classification", labels[:3000], CLASSES[:classes])
    found = estimate_without_labels("log_loss", scores[3000:], truth, scores[:3000], 0.95)
    raw = estimate_without_labels(
        "log_loss", scores[3000:], Truth("classification", labels[:10], truth.classes), scores[:10], 0.95
    )
    measured = measure("log_loss", scores[3000:], labels[3000:])
    assert found is not None
    assert raw is not None
    assert (found.calibrated_on, raw.calibrated_on) == (2000, 0)
    assert found.low <= measured <= found.high
    assert raw.high < measured - 0.1


def test_under_concept_drift_it_reports_the_quality_of_before() -> None:
    """This is why no verdict depends on it."""
    scores, labels = draw(4_000, 2)
    truth = Truth("classification", labels[:2000], CLASSES[:2])
    found = estimate_without_labels("error_rate", scores[2000:], truth, scores[:2000], 0.95)
    assert found is not None
    assert measure("error_rate", scores[2000:], 1 - labels[2000:]) > found.high + 0.2
    assert VALIDITY in found.describe()


def test_other_metrics_few_rows_and_regressions_have_no_estimate() -> None:
    scores, labels = draw(100, 3)
    truth = Truth("classification", labels, CLASSES[:2])
    assert estimate_without_labels("roc_auc", scores, truth, scores, 0.95) is None
    assert estimate_without_labels("log_loss", scores[:49], truth, scores, 0.95) is None
    regression = Truth("regression", labels.astype(float))
    assert estimate_without_labels("log_loss", scores, regression, scores, 0.95) is None


def test_a_class_without_labels_and_certain_probabilities_stay_finite() -> None:
    scores = np.tile([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (200, 1))
    truth = Truth("classification", np.array([0, 1] * 200), CLASSES)
    found = estimate_without_labels("log_loss", scores, truth, scores, 0.95)
    assert found is not None
    assert np.isfinite([found.estimate, found.low, found.high]).all()
