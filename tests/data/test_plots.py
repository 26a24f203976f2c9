"""Plots of answers: small pages of SVG, whole for each task."""

from xml.etree import ElementTree

import numpy as np
import pytest

from tidemill.data.arrays import Floats
from tidemill.data.metrics import Truth
from tidemill.data.plots import calibration_curve, render_plots

RANDOM = np.random.default_rng(2)
LATE = RANDOM.random(3000) < 0.3
SHARES = np.clip(0.3 + 0.3 * (LATE - 0.3) + RANDOM.normal(0, 0.1, 3000), 0, 1)


@pytest.mark.parametrize(
    ("truth", "scores", "titles"),
    [
        (
            Truth("classification", LATE.astype(int), ("on time", "<late>")),
            np.column_stack((1 - SHARES, SHARES)),
            ["Calibration", "ROC", "Precision and recall", "Confusion"],
        ),
        (Truth("classification", np.zeros(5, int), ("a", "b")), np.full((5, 2), 0.5), ["Calibration", "Confusion"]),
        (
            Truth("classification", RANDOM.integers(0, 3, 90), ("a", "b", "c")),
            RANDOM.dirichlet((1, 1, 1), 90),
            ["Calibration, each class", "ROC, each class", "Precision and recall, each class", "Confusion"],
        ),
        (Truth("regression", SHARES), SHARES + 0.1, ["Residuals"]),
        (Truth("regression", np.ones(1)), np.ones(1), ["Residuals"]),
    ],
)
def test_a_page_for_each_task(truth: Truth, scores: Floats, titles: list[str]) -> None:
    drawn = render_plots(truth, scores, "late/1 & its <answers>")
    assert [title for title in titles if f"<figcaption>{title}" in drawn] == titles
    assert drawn.count("<figure>") == len(titles)
    assert "<late>" not in drawn
    assert "<answers>" not in drawn
    assert len(drawn) < 60_000
    for figure in drawn.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + figure.split("</svg>")[0] + "</svg>")
    assert "nan" not in drawn.replace("finance", "")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_answers_that_are_not_finite_are_counted_not_drawn(wrong: float) -> None:
    binary = np.column_stack((1 - SHARES, SHARES))
    binary[:2, 1] = wrong
    drawn = render_plots(Truth("classification", LATE.astype(int), ("a", "b")), binary, "t")
    assert "2,998 rows; 2 more have a prediction that is not finite" in drawn
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("finite", "")
    assert "0 rows; 3 more" in render_plots(Truth("regression", np.ones(3)), np.full(3, wrong), "t")


def test_what_is_calibrated_lies_on_the_diagonal() -> None:
    scores = RANDOM.random(20_000)
    message, found = calibration_curve(RANDOM.random(20_000) < scores, scores)
    assert len(message) == 10
    assert np.abs(message - found).max() < 0.05
