"""Whether two environments are equivalent: by their answers for the same rows, and by their metrics."""

import math

import pytest
from msgspec.structs import replace

from tidemill.checks.equivalence import ReferenceAnswers, compare_answers, judge_upgrade
from tidemill.core.upgrade import Upgrade, VersionChange

OLD = ReferenceAnswers(
    scores=[[0.2, 0.8], [0.6, 0.4]], classes=("no", "yes"), metrics={"log_loss": 0.5, "roc_auc": 0.8}
)
CHANGES = (VersionChange(package="numpy", before="1", after="2"), VersionChange(package="scipy", before="1", after="2"))


@pytest.mark.parametrize(
    ("new", "limits", "reason"),
    [
        (OLD, Upgrade(), ""),
        (replace(OLD, scores=[[0.2, 0.8], [0.6 + 1e-9, 0.4 - 1e-9]]), Upgrade(), ""),
        (replace(OLD, scores=[[0.2, 0.8], [0.5, 0.5]]), Upgrade(), "50.0% of 2 answers differ by more than 1e-06"),
        (replace(OLD, scores=[[0.2, 0.8], [0.5, 0.5]]), Upgrade(share=0.5), ""),
        (replace(OLD, scores=[[0.2, 0.8], [0.5, 0.5]]), Upgrade(predictions=0.2), ""),
        (replace(OLD, scores=[[math.nan, 0.8], [0.6, 0.4]]), Upgrade(predictions=0.2), "the largest difference is inf"),
        (replace(OLD, metrics={"log_loss": 0.51, "roc_auc": 0.8}), Upgrade(), "log_loss is worse: 0.5100 instead of"),
        (replace(OLD, metrics={"log_loss": 0.49, "roc_auc": 0.9}), Upgrade(), ""),
        (replace(OLD, metrics={"log_loss": 0.5, "roc_auc": 0.7}), Upgrade(), "roc_auc is worse: 0.7000 instead of"),
        (replace(OLD, metrics={"log_loss": 0.51, "roc_auc": 0.8}), Upgrade(metrics=0.05), ""),
        (replace(OLD, classes=("no", "maybe")), Upgrade(), "the classes differ: no, yes before, no, maybe after"),
        (replace(OLD, scores=OLD.scores[:1]), Upgrade(), "the classes differ"),
        (ReferenceAnswers(problem="step 'fit' failed"), Upgrade(), "the training fails: step 'fit' failed"),
    ],
)
def test_answers_and_metrics_are_compared_by_the_limits(new: ReferenceAnswers, limits: Upgrade, reason: str) -> None:
    found = compare_answers(OLD, new, limits).reason
    assert reason in found
    assert bool(found) is bool(reason)


def test_numbers_are_compared_in_units_of_their_spread() -> None:
    old = ReferenceAnswers(scores=[[0.0], [1000.0]])
    near, far = (replace(old, scores=[[0.0], [1000.0 + change]]) for change in (1e-4, 1.0))
    assert compare_answers(old, near, Upgrade()).reason == ""
    assert compare_answers(old, far, Upgrade()).largest == pytest.approx(0.002)
    assert compare_answers(old, replace(old, scores=[[math.nan], [1000.0]]), Upgrade()).largest == math.inf


def test_answers_that_are_not_finite_in_both_are_equal() -> None:
    old = ReferenceAnswers(scores=[[math.nan], [math.inf]])
    assert compare_answers(old, old, Upgrade()).reason == ""


def test_the_verdict_names_what_made_the_difference() -> None:
    difference = compare_answers(OLD, replace(OLD, scores=[[0.2, 0.8], [0.5, 0.5]]), Upgrade())
    verdict = judge_upgrade("2 packages", CHANGES, OLD, difference, culprits=("scipy",), answered="9 rows")
    assert (verdict.outcome, verdict.action) == ("fail", "stop")
    assert verdict.reason.endswith("made by scipy 1 → 2")
    assert verdict.evidence["culprits"] == ["scipy"]
    assert judge_upgrade("2 packages", CHANGES, OLD, difference).reason.endswith("after numpy 1 → 2, scipy 1 → 2")


def test_a_training_that_differs_from_itself_and_an_old_environment_without_answers_are_undecided() -> None:
    difference = compare_answers(OLD, replace(OLD, scores=[[0.2, 0.8], [0.5, 0.5]]), Upgrade())
    noisy = judge_upgrade("numpy", CHANGES, OLD, difference, noise=difference)
    assert (noisy.outcome, noisy.action) == ("undecided", "stop")
    assert noisy.reason.startswith("the training is not deterministic")
    absent = judge_upgrade("numpy", CHANGES, ReferenceAnswers(problem="no wheel"), difference)
    assert (absent.outcome, absent.stops) == ("undecided", True)
    assert absent.reason == "the old environment cannot be judged: no wheel"


def test_equal_environments_pass() -> None:
    verdict = judge_upgrade("2 packages", CHANGES, OLD, compare_answers(OLD, OLD, Upgrade()))
    assert (verdict.outcome, verdict.action) == ("pass", "proceed")
