"""The first model of a small table is compared with the trivial baseline on folds, with the stated error rates."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

from tests.projects import listed, tidemill
from tidemill.checks.comparison import compare_on_folds
from tidemill.core.check import Outcome
from tidemill.core.policy import Gate

FOLDS = 10
SEEDS = 400


def compare_linear_model(seed: int, rows: int, columns: int, slope: float) -> Outcome:
    """Return the outcome for ordinary least squares: y = slope * x1 + noise, and columns without a meaning."""
    random = np.random.default_rng(seed)
    x = np.column_stack([np.ones(rows), random.normal(size=(rows, columns))])
    y = slope * x[:, 1] + random.normal(size=rows)
    candidate, baseline = np.empty(rows), np.empty(rows)
    for fold in range(FOLDS):
        test = np.arange(rows) % FOLDS == fold
        weights = np.linalg.lstsq(x[~test], y[~test], rcond=None)[0]
        candidate[test] = (y[test] - x[test] @ weights) ** 2
        baseline[test] = (y[test] - y[~test].mean()) ** 2
    return compare_on_folds(candidate, baseline, Gate(), folds=FOLDS, ratio=1 / (FOLDS - 1)).outcome


def share_passed(rows: int, columns: int, slope: float) -> float:
    return float(np.mean([compare_linear_model(seed, rows, columns, slope) == "pass" for seed in range(SEEDS)]))


@pytest.mark.parametrize(("rows", "columns"), [(50, 3), (150, 10)])
def test_a_model_that_is_no_better_is_rarely_released(rows: int, columns: int) -> None:
    """Least squares with p columns costs p / n of the noise, and gains slope²: at equality it is no better."""
    learned = rows * (FOLDS - 1) / FOLDS
    assert share_passed(rows, columns, slope=float(np.sqrt(columns / (learned - columns - 2)))) <= 0.05
    assert share_passed(rows, columns, slope=0.0) <= 0.025


def test_a_model_that_is_clearly_better_is_released() -> None:
    assert share_passed(60, 3, slope=2.0) >= 0.95
    assert share_passed(150, 3, slope=1.0) >= 0.95


def test_a_model_that_is_proven_worse_fails() -> None:
    losses = np.random.default_rng(0).gamma(2, 0.5, 60)
    assert compare_on_folds(losses + 0.5, losses, Gate(), folds=FOLDS, ratio=1 / 9).outcome == "fail"


def test_a_good_first_model_of_a_small_table_is_released(tmp_path: Path) -> None:
    """One confident error among the 36 test rows of wine made the interval of the difference reach 0."""
    bunch: Any = datasets.load_wine(as_frame=True)
    table = pl.DataFrame({column: bunch.frame[column].to_numpy() for column in bunch.frame.columns})
    table.write_csv(tmp_path / "wine.csv")
    tidemill(tmp_path, "init", "small", "--from", "wine.csv", "--label", "target")
    done = tidemill(tmp_path / "small", "run", "training")
    assert "serves as champion" in done.stdout
    assert len((done.stdout + done.stderr).splitlines()) <= 12
    (verdict,) = listed(tmp_path / "small", "checks", "list", "--check", "gate")
    evidence = verdict["evidence"]
    assert (verdict["outcome"], evidence["fold_rows"]) == ("pass", table.height)
    low, high = evidence["against_baseline_on_folds"]
    assert low < evidence["fold_loss"] - evidence["fold_baseline_loss"] < high < 0
