"""What the gate finds of a candidate by its losses and its answers."""

from typing import Any

import numpy as np
import pytest

from tidemill.checks.comparison import (
    CHAMPION_CHECKS,
    check_metric_thresholds,
    check_predictions,
    choose_better_of_two,
    compare,
    compare_with_champion,
    describe_champion,
)
from tidemill.checks.gate import Finding, combine_findings
from tidemill.core.check import Outcome, Verdict
from tidemill.core.policy import Gate
from tidemill.data.arrays import Floats

RANDOM = np.random.default_rng(11)
ROWS = 2_000
BASELINE = RANDOM.gamma(2, 0.4, ROWS)
CHAMPION = BASELINE * 0.7
JFK = np.arange(ROWS) < 400


def judge(candidate: Floats, champion: Floats | None = CHAMPION, **policy: Any) -> Verdict:
    slices = {"origin=JFK": JFK, "origin=tiny": np.arange(ROWS) < 50}
    verdict = combine_findings("late", compare(candidate, BASELINE, champion, policy=Gate(**policy), slices=slices))
    assert verdict.stops == (verdict.outcome == "fail")
    return verdict


def noise(scale: float) -> Floats:
    return np.random.default_rng(5).normal(0, scale, ROWS)


def test_the_first_model_must_beat_the_trivial_baseline() -> None:
    assert judge(CHAMPION, None).outcome == "pass"
    worse = judge(BASELINE + 0.01, None)
    assert worse.outcome == "fail"
    assert "not better than the trivial baseline" in worse.reason
    assert judge(BASELINE, None).outcome == "fail"
    assert judge(BASELINE * 0.99, None, baseline_margin=0.1).outcome == "fail"


def test_answers_that_are_no_numbers_fail() -> None:
    for bad in (np.nan, np.inf):
        scores = CHAMPION.copy()
        scores[3] = bad
        (found,) = check_predictions(scores, scores)
        assert (found.outcome, found.reason) == ("fail", "the predictions of 1 rows are not finite")
    (found,) = check_predictions(np.array([[0.5, 0.5], [0.9, 0.4]]), CHAMPION[:2])
    assert (found.outcome, found.reason) == ("fail", "the probabilities of a row do not sum to 1")


def test_answers_that_differ_when_asked_again_fail() -> None:
    assert check_predictions(CHAMPION, CHAMPION, CHAMPION[:100])[0].outcome == "pass"
    (found,) = check_predictions(CHAMPION, CHAMPION, CHAMPION[:100] + 1e-3)
    assert (found.about, found.outcome) == ("determinism", "fail")


def test_a_champion_that_must_be_beaten() -> None:
    assert judge(CHAMPION, better=True).outcome == "fail"
    assert judge(CHAMPION * 0.9, better=True).outcome == "pass"


def test_what_the_champion_has_learned_from_proves_nothing() -> None:
    seen: dict[str, Any] = {"slices": {}, "unseen": np.arange(ROWS) < 49}
    lenient = combine_findings("late", compare(CHAMPION * 0.9, BASELINE, CHAMPION, policy=Gate(), **seen))
    assert (lenient.outcome, lenient.action) == ("warn", "proceed")
    strict = combine_findings("late", compare(CHAMPION * 0.9, BASELINE, CHAMPION, policy=Gate(better=True), **seen))
    assert (strict.outcome, strict.action) == ("fail", "stop")
    assert "all but 49 test rows: no proof that the candidate is better" in strict.reason


def test_the_first_model_may_not_be_worse_than_the_baseline_on_a_slice() -> None:
    verdict = judge(CHAMPION + np.where(JFK, 0.5, -0.1) + noise(0.05), None)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("worse than the trivial baseline on origin=JFK")


def test_thresholds_of_the_business() -> None:
    values = {"roc_auc": 0.7, "log_loss": 0.5}
    for message, outcome in (
        (">= 0.7", "pass"),
        (">0.7", "fail"),
        ("<= 0.7", "pass"),
        ("< 0.7", "fail"),
        (">= 0.71", "fail"),
    ):
        (found,) = check_metric_thresholds(values, {"roc_auc": message})
        assert found.outcome == outcome, message
    (found,) = check_metric_thresholds(values, {"rmse": "< 3"})
    assert (found.outcome, found.reason) == (
        "fail",
        "rmse must be < 3, but was not measured (measured: log_loss, roc_auc)",
    )


def test_one_verdict_gives_every_reason() -> None:
    verdict = judge(CHAMPION + 0.3 + np.where(JFK, 0.9, 0.0) + noise(0.05))
    assert [one["about"] for one in verdict.evidence["findings"] if one["outcome"] == "fail"] == [
        "baseline",
        "slices",
        "champion",
    ]
    assert verdict.reason.count(";") == 2


def test_a_better_model_and_the_same_model_pass() -> None:
    assert judge(CHAMPION * 0.9).outcome == "pass"
    assert judge(CHAMPION).outcome == "pass"
    better = judge(CHAMPION * 0.9)
    low, high = better.evidence["against_champion"]
    assert low < high < 0


def test_a_clearly_worse_model_fails() -> None:
    verdict = judge(CHAMPION + 0.05 + noise(0.1))
    assert verdict.outcome == "fail"
    assert "worse than the champion" in verdict.reason
    assert verdict.evidence["against_champion"][0] > 0


def test_a_margin_lets_a_slightly_worse_model_pass() -> None:
    candidate = CHAMPION + 0.02 + noise(0.05)
    assert judge(candidate).outcome == "fail"
    assert judge(candidate, margin=0.05).outcome == "pass"


def test_a_slice_that_suffers_fails_though_the_whole_is_better() -> None:
    candidate = CHAMPION * 0.8 + np.where(JFK, 0.3, 0.0) + noise(0.05)
    assert candidate.mean() < CHAMPION.mean()
    verdict = judge(candidate)
    assert verdict.outcome == "fail"
    assert "origin=JFK" in verdict.reason
    assert verdict.evidence["slice_rows"] == 400
    assert judge(candidate, slice_tolerance=0.5).outcome == "pass"
    assert judge(candidate, slice_minimum=401).outcome == "pass"


def test_equal_models_pass_as_often_as_a_margin_allows() -> None:
    """30 pairs of models of the same quality, a margin of two standard errors: nearly all pass."""
    passed = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        candidate = CHAMPION + random.normal(0, 0.2, ROWS)
        passed += judge(candidate, margin=0.01, slice_tolerance=0.1).outcome == "pass"
    assert passed >= 26


def test_what_too_few_rows_do_not_tell_is_undecided() -> None:
    """The interval of the difference covers the bound: the first model is not released, and not refused."""
    few = np.arange(14)
    first = BASELINE[few] - 0.05 + noise(0.5)[few]
    findings = compare(first, BASELINE[few], None, policy=Gate(), slices={})
    verdict = combine_findings("late", findings, has_canary=False)
    low, high = verdict.evidence["against_baseline"]
    assert low < 0 < high
    assert (verdict.outcome, verdict.action, verdict.stops) == ("undecided", "collect", True)
    assert "14 test rows are too few to show whether it is better than the trivial baseline" in verdict.reason
    assert "collect more rows" in verdict.reason
    assert combine_findings("late", findings, has_canary=True).action == "proceed", (
        "live traffic decides against a champion"
    )


def test_a_comparison_with_the_champion_that_is_undecided_is_left_to_live_traffic() -> None:
    candidate = CHAMPION + 0.012 + noise(0.2)
    verdict = judge(candidate, margin=0.01)
    low, high = verdict.evidence["against_champion"]
    assert low < 0.01 < high
    assert (verdict.outcome, verdict.action) == ("undecided", "proceed")
    equal = CHAMPION + noise(0.4)
    found = {
        has_canary: compare_with_champion(equal, CHAMPION, policy=Gate(margin=0.02), slices={}, has_canary=has_canary)
        for has_canary in (True, False)
    }
    assert [found[True][0].outcome, found[False][0].outcome] == ["pass", "undecided"]
    assert combine_findings("late", found[False], has_canary=False).action == "collect", (
        "it would be the champion at once"
    )


def test_a_threshold_that_an_interval_covers_is_undecided() -> None:
    thresholds = {"error_rate": "<= 0.1"}
    for interval, outcome in (((0.05, 0.15), "undecided"), ((0.05, 0.09), "pass")):
        (found,) = check_metric_thresholds({"error_rate": 0.08}, thresholds, {"error_rate": interval})
        assert found.outcome == outcome
    (found,) = check_metric_thresholds({"error_rate": 0.12}, thresholds, {"error_rate": (0.11, 0.13)})
    assert found.outcome == "fail"


def judge_both(candidate: float, champion: float, baseline: float = 1.0, outcome: Outcome = "fail") -> Verdict:
    """Return the verdict on a candidate whose comparison with the baseline has this outcome, by three mean losses."""
    standing = {"compared_loss": candidate, "compared_champion_loss": champion, "compared_baseline_loss": baseline}
    findings = [
        Finding(about="baseline", outcome=outcome, reason="not better than the trivial baseline"),
        Finding(about=CHAMPION_CHECKS, reason="the champion would not pass either", evidence=standing),
        Finding(about="champion", reason="not worse than the champion"),
    ]
    return describe_champion(combine_findings("late", choose_better_of_two(findings), has_canary=False))


def test_the_better_of_two_is_not_refused_because_the_baseline_beats_both() -> None:
    verdict = judge_both(4.37, 7.07)
    assert (verdict.outcome, verdict.action) == ("warn", "proceed")
    assert "it is the better of the two that can serve: loss 4.3700 against 7.0700" in verdict.reason


def test_on_wrong_labels_a_candidate_that_is_a_little_better_than_the_champion_is_refused() -> None:
    """Labels that are shuffled make the champion worse than the baseline, and a candidate that learned them less so."""
    assert judge_both(0.550, 0.637, baseline=0.543).action == "stop"
    assert judge_both(0.550, 0.700, baseline=0.543).action == "proceed"


def test_a_refusal_states_whether_the_champion_would_pass() -> None:
    for verdict in (judge_both(7.07, 4.37), judge_both(0.99, 0.995), judge_both(4.37, 4.37)):
        assert verdict.action == "stop"
        assert verdict.reason == "not better than the trivial baseline; the champion would not pass either"


def test_a_candidate_that_is_better_than_the_champion_needs_no_proof_about_the_baseline() -> None:
    assert judge_both(0.9, 0.95, outcome="undecided").action == "proceed"
    assert judge_both(0.96, 0.95, outcome="undecided").action == "collect"


def test_dependent_rows_prove_less() -> None:
    """Losses that differ for whole days: as independent rows they would prove that the candidate is worse."""
    days = np.repeat(np.random.default_rng(3).normal(0.1, 0.4, 20), 100)
    options = {"policy": Gate(), "slices": {}, "has_canary": False}
    found = [
        compare_with_champion(CHAMPION + days, CHAMPION, in_time_order=ordered, **options)[-1].outcome  # type: ignore[arg-type]
        for ordered in (False, True)
    ]
    assert found == ["fail", "undecided"]


@pytest.mark.parametrize(
    ("share", "canary", "outcome"), [(0.1, True, "undecided"), (0.3, True, "fail"), (0.1, False, "fail")]
)
def test_the_canary_decides_what_one_period_shows_to_be_a_little_worse(
    share: float, canary: bool, outcome: Outcome
) -> None:
    worse = CHAMPION + share * CHAMPION.mean()
    found = compare_with_champion(worse, CHAMPION, policy=Gate(), slices={}, has_canary=canary, in_time_order=True)[-1]
    assert found.outcome == outcome
    assert compare_with_champion(worse, CHAMPION, policy=Gate(), slices={}, has_canary=canary)[-1].outcome == "fail"
