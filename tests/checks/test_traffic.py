"""The judge of a canary, on simulated arms: promote, roll back, or wait for more labels."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from tidemill.checks.guards import Answers, LiveBehaviour
from tidemill.checks.traffic import CanaryClock, check_traffic, compare_arms, compare_pairs
from tidemill.core.check import Verdict
from tidemill.core.rollout import Rollout
from tidemill.data.arrays import Floats

ENDED = CanaryClock(ended=True)


def arms(seed: int, rows: int, worse: float = 0.0) -> tuple[Floats, Floats]:
    """The losses of challenger and champion on the same rows; their differences have a deviation of 0.3."""
    random = np.random.default_rng(seed)
    champion = random.gamma(2, 0.3, rows)
    return champion + random.normal(worse, 0.3, rows), champion


def judge(
    challenger: Floats,
    champion: Floats,
    clock: CanaryClock | None = None,
    behaviour: LiveBehaviour | None = None,
    **options: Any,
) -> Verdict:
    rollout = Rollout(**({"minimum": 300, "margin": 0.05} | options))
    return check_traffic(
        compare_pairs(challenger, champion),
        rollout,
        subject="late/2",
        reference="late/1",
        clock=clock or CanaryClock(),
        behaviour=behaviour or LiveBehaviour(),
    )


def over_seeds(worse: float, rows: int, clock: CanaryClock | None = None, **options: Any) -> Counter[str]:
    """How often each action is called for, of 200 times."""
    return Counter(judge(*arms(seed, rows, worse), clock, **options).action for seed in range(200))


def test_an_equal_challenger_is_promoted_where_there_is_a_margin() -> None:
    actions = over_seeds(0.0, 1200)
    assert actions["promote"] >= 180
    assert actions["rollback"] == 0


def test_a_challenger_that_is_worse_by_the_margin_is_rarely_promoted() -> None:
    """At most 5 % at any number of looks, so at one look less: more than 10 of 200 would be a defect."""
    assert over_seeds(0.05, 800)["promote"] <= 10


def test_a_better_challenger_is_promoted() -> None:
    assert over_seeds(-0.1, 600)["promote"] >= 195


def test_a_worse_challenger_is_rolled_back() -> None:
    assert over_seeds(0.2, 600)["rollback"] >= 195


def test_superiority_requires_a_proof_that_the_challenger_is_better() -> None:
    equal = over_seeds(0.0, 800, mode="superiority")
    assert equal["promote"] <= 10
    assert equal["hold"] >= 180
    assert over_seeds(-0.1, 800, mode="superiority")["promote"] >= 195


def test_harm_is_not_waited_for() -> None:
    early = over_seeds(0.4, 240, CanaryClock(early=True), minimum=400)
    assert early["rollback"] >= 180
    assert early["promote"] == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_challenger_that_is_much_worse_in_some_hours_is_stopped_on_the_first_day(seed: int) -> None:
    """Its loss is three times as high in a part of the hours: the hours differ too much for bounds of their mean."""
    random = np.random.default_rng(seed)
    champion = random.gamma(2, 0.3, 240)
    hours = np.repeat(random.choice([0.0, 3.0], 24, p=[0.5, 0.5]), 10)
    verdict = judge(champion * (1 + hours), champion)
    assert (verdict.action, "much worse" in verdict.reason or "clearly worse" in verdict.reason) == ("rollback", True)


def test_a_challenger_that_is_equal_in_dependent_rows_is_not_stopped_as_harm() -> None:
    """Differences hang together for half a day: their mean varies five times as much as that of independent rows."""
    stopped = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        champion = random.gamma(2, 0.3, 400)
        stopped += judge(champion + np.repeat(random.normal(0, 0.2, 16), 25), champion).action == "rollback"
    assert stopped <= 4


def test_before_the_shortest_duration_nothing_is_promoted() -> None:
    assert over_seeds(-0.2, 800, CanaryClock(early=True)) == {"hold": 200}


@pytest.mark.parametrize("rows", [0, 1, 4, 74, 299])
def test_few_labels_are_waited_for_and_none_forever(rows: int) -> None:
    waiting = judge(*arms(1, rows))
    assert (waiting.outcome, waiting.action) == ("undecided", "hold")
    assert f"{rows} labels (minimum 300)" in waiting.reason or f"on the same {rows} rows" in waiting.reason
    ended = judge(*arms(1, rows), ENDED)
    assert (ended.outcome, ended.action) == ("undecided", "rollback")


def test_an_undecided_canary_ends_as_the_policy_says() -> None:
    undecided = next(seed for seed in range(99) if judge(*arms(seed, 400), margin=0.0).action == "hold")
    assert judge(*arms(undecided, 400), ENDED, margin=0.0).action == "rollback"
    promoted = judge(*arms(undecided, 400), ENDED, margin=0.0, undecided="challenger")
    assert (promoted.outcome, promoted.action) == ("undecided", "promote")


@pytest.mark.parametrize("clock", [ENDED, CanaryClock(extended=True, blocks=3)])
def test_by_policy_a_lower_live_loss_and_a_bound_for_one_look_decide(clock: CanaryClock) -> None:
    def count_promoted(worse: float, rows: int) -> int:
        """Return how many of 200 canaries of three days are promoted."""
        rollout, blocks = Rollout(margin=0.02, minimum=30, undecided="better"), np.arange(rows) * 3 // rows
        comparisons = [compare_pairs(*arms(seed, rows, worse), blocks, 3) for seed in range(200)]
        verdicts = [check_traffic(found, rollout, subject="b", reference="a", clock=clock) for found in comparisons]
        return sum(verdict.action == "promote" for verdict in verdicts)

    assert count_promoted(0.02, 400) <= 10
    assert count_promoted(-0.04, 400) >= 160
    assert count_promoted(-0.5, 20) == 0, "too few labels for an estimate"


def test_a_challenger_whose_loss_is_higher_by_the_margin_does_not_wait_for_the_extension() -> None:
    champion = np.random.default_rng(1).gamma(2, 0.3, 60)
    challenger = champion + np.random.default_rng(2).normal(0.1, 0.3, 60)
    comparison = compare_pairs(challenger, champion, np.arange(60) // 20, 3)
    clock, rollout = CanaryClock(extended=True, blocks=3), Rollout(margin=0.05, minimum=30, undecided="better")
    verdict = check_traffic(comparison, rollout, subject="b", reference="a", clock=clock)
    assert (verdict.outcome, verdict.action) == ("undecided", "rollback"), verdict.reason
    assert "its live loss is higher" in verdict.reason


@pytest.mark.parametrize(
    ("challenger_loss", "share", "undecided", "clock", "expected"),
    [
        (0.49, 0.2, "better", "extended", ("step", 0.95)),
        (0.49, 0.95, "better", "extended", ("hold", None)),
        (0.51, 0.95, "better", "extended", ("step", 0.2)),
        (0.51, 0.2, "better", "extended", ("hold", None)),
        (0.49, 0.2, "better", "running", ("step", 0.95)),
        (0.49, 0.2, "better", "early", ("hold", None)),
        (0.49, 0.2, "better", "not extensible", ("hold", None)),
        (0.49, 0.2, "champion", "extended", ("hold", None)),
        (0.49, 0.97, "better", "running", ("hold", None)),  # a refresh that began with more
        (0.51, 0.97, "champion", "running", ("step", 0.2)),
        (0.51, 0.95, "better", "not extensible", ("step", 0.2)),
        (0.51, 0.95, "better", "early", ("hold", None)),
        (0.51, 0.95, "better", "few", ("hold", None)),
        (0.51, 0.1, "better", "running", ("hold", None)),
        (0.49, None, "better", "extended", ("hold", None)),
    ],
)
def test_where_there_is_an_extension_the_release_with_the_lower_live_loss_serves_most_requests(
    challenger_loss: float, share: float | None, undecided: Any, clock: str, expected: tuple[str, float | None]
) -> None:
    random, rows = np.random.default_rng(4), 90
    days = np.repeat(random.normal(0, 0.4, 9), 10)  # of such days no bound decides
    noise = days - days.mean()
    comparison = compare_pairs(np.full(rows, challenger_loss) + noise, np.full(rows, 0.5), np.arange(rows) // 10, 9)
    extension = "0d" if clock == "not extensible" else "7d"
    minimum = 500 if clock == "few" else 30
    rollout = Rollout(margin=0.05, minimum=minimum, undecided=undecided, extension=extension)
    place = CanaryClock(early=clock == "early", extended=clock == "extended", share=share)
    verdict = check_traffic(comparison, rollout, subject="b", reference="a", clock=place)
    assert (verdict.action, verdict.evidence.get("share")) == expected, verdict.reason
    assert verdict.outcome == "undecided"


def test_at_the_end_a_loss_that_is_lower_by_the_margin_is_enough_where_no_bound_proves_anything() -> None:
    random, rollout = np.random.default_rng(4), Rollout(margin=0.05, minimum=30, undecided="better")
    noise = np.cumsum(random.normal(0, 0.05, 140))  # hangs together for weeks

    def decide(difference: float, clock: CanaryClock) -> str:
        challenger = 0.5 + difference + noise - noise.mean()
        comparison = compare_pairs(challenger, np.full(140, 0.5), np.arange(140) // 10, 14)
        return check_traffic(comparison, rollout, subject="b", reference="a", clock=clock).action

    assert decide(-0.06, ENDED) == "promote"
    assert decide(-0.04, ENDED) == "rollback"
    assert decide(-0.06, CanaryClock(extended=True)) == "hold"


@pytest.mark.parametrize(
    ("difference", "rows", "undecided", "action"),
    [
        (-0.06, 140, "better", "promote"),
        (-0.04, 140, "better", "rollback"),
        (-0.06, 20, "better", "hold"),  # late labels: with too few the newer release would have the same fate
        (-0.06, 140, "champion", "hold"),
    ],
)
def test_a_newer_release_that_waits_ends_the_extension(
    difference: float, rows: int, undecided: Any, action: str
) -> None:
    noise = np.cumsum(np.random.default_rng(4).normal(0, 0.05, 140))[:rows]
    challenger = 0.5 + difference + noise - noise.mean()
    comparison = compare_pairs(challenger, np.full(rows, 0.5), np.arange(rows) // 10, 14)
    rollout = Rollout(margin=0.05, minimum=30, undecided=undecided)

    def decide(clock: CanaryClock) -> Verdict:
        return check_traffic(comparison, rollout, subject="b", reference="a", clock=clock)

    verdict = decide(CanaryClock(extended=True, is_awaited=True))
    assert verdict.action == action
    assert ("a newer release waits" in verdict.reason) == (action != "hold")
    assert decide(CanaryClock(extended=True)).action == "hold"
    assert decide(CanaryClock(is_awaited=True)).action == "hold", "not before `maximum`"
    assert "its time is up" in decide(CanaryClock(ended=True, is_awaited=True)).reason


def test_losses_without_any_spread_are_judged() -> None:
    same = np.full(300, 0.5)
    assert judge(same, same).action == "promote"
    assert judge(same + 0.1, same).action == "rollback"


def test_the_verdict_shows_its_numbers() -> None:
    challenger, champion = arms(1, 400)
    verdict = judge(challenger, champion)
    assert (verdict.subject, verdict.reference) == ("late/2", "late/1")
    assert verdict.evidence["rows"] == 400
    assert verdict.evidence["difference"] == pytest.approx(challenger.mean() - champion.mean())
    assert verdict.evidence["lower"] < verdict.evidence["difference"] < verdict.evidence["upper"]


def test_a_prediction_that_is_not_finite_is_rolled_back_at_once() -> None:
    challenger, champion = arms(1, 10)
    challenger[3] = np.nan
    verdict = judge(challenger, champion, CanaryClock(early=True))
    assert (verdict.outcome, verdict.action) == ("fail", "rollback")
    assert "not finite on 1 of 10 rows" in verdict.reason


def test_rows_that_the_champion_did_not_answer_are_not_compared() -> None:
    challenger, champion = arms(1, 800)
    champion[::4] = np.nan
    verdict = judge(challenger, champion, margin=0.1)
    assert verdict.action == "promote"
    assert (verdict.evidence["rows"], verdict.evidence["champion_not_finite"]) == (600, 200)


def test_rows_of_a_block_that_is_not_complete_do_not_decide() -> None:
    challenger, champion = arms(1, 100)
    comparison = compare_pairs(challenger, champion, np.arange(100) // 10, closed=7)
    assert (comparison.rows, comparison.labels, comparison.blocks) == (70, 100, 7)
    assert comparison.decided.tolist() == (challenger - champion)[:70].tolist()


def judge_blocks(differences: Floats, blocks: int, *, shows_days: bool = True) -> Verdict:
    champion = np.full(len(differences), 0.6)
    indices = np.arange(len(differences)) * blocks // len(differences)
    comparison = compare_pairs(champion + differences, champion, indices, blocks, shows_days=shows_days)
    return check_traffic(comparison, Rollout(margin=0.2), subject="late/2", reference="late/1")


@pytest.mark.parametrize(("blocks", "action"), [(1, "hold"), (2, "hold"), (3, "promote")])
def test_independent_rows_decide_after_three_blocks(blocks: int, action: str) -> None:
    assert judge_blocks(np.random.default_rng(1).normal(0, 0.3, 600), blocks).action == action


@pytest.mark.parametrize(("blocks", "action"), [(3, "hold"), (6, "hold"), (7, "promote")])
def test_rows_that_depend_on_each_other_decide_after_seven_blocks(blocks: int, action: str) -> None:
    differences = lfilter([1], [1, -0.5], np.random.default_rng(2).normal(0, 0.1, 1200))
    verdict = judge_blocks(differences, blocks)
    assert verdict.action == action
    assert float(verdict.evidence["inflation"]) > 1.3
    if action == "hold":
        assert f"{blocks} complete blocks of time (minimum 7, as rows may depend on each other)" in verdict.reason


@pytest.mark.parametrize(("blocks", "action"), [(3, "hold"), (7, "promote")])
def test_rows_that_arrive_in_batches_do_not_show_that_they_are_independent(blocks: int, action: str) -> None:
    assert judge_blocks(np.random.default_rng(3).normal(0, 0.3, 600), blocks, shows_days=False).action == action


def test_without_common_rows_the_own_rows_of_the_arms_decide() -> None:
    random = np.random.default_rng(3)
    blocks = np.arange(2000) // 100
    champion = (random.gamma(2, 0.3, 2000), blocks)
    rollout = Rollout(margin=0.15)

    def act(worse: float) -> Verdict:
        challenger = (random.gamma(2, 0.3, 2000) + worse, blocks)
        return check_traffic(compare_arms(challenger, champion, 20), rollout, subject="late/2", reference="late/1")

    assert (act(0.0).action, act(0.5).action) == ("promote", "rollback")
    assert "rows of each" in act(0.0).reason


def test_a_challenger_stays_if_the_champion_can_answer_nothing() -> None:
    failing = LiveBehaviour(
        champion=Answers(asked=100, failed=100, requests=100), challenger=Answers(asked=80, failed=0)
    )
    verdict = judge(*arms(1, 0), ENDED, failing)
    assert (verdict.outcome, verdict.action) == ("warn", "promote")
    assert "the champion failed to answer 100 of 100 rows" in verdict.reason
    assert judge(*arms(1, 0), None, failing).action == "hold"
    both = LiveBehaviour(champion=failing.champion, challenger=Answers(asked=80, failed=80, requests=80))
    assert judge(*arms(1, 0), ENDED, both).action == "rollback"


@pytest.mark.parametrize("rows_a_day", [20, 120])
def test_looks_every_day_promote_few_challengers_that_are_worse_by_the_margin(rows_a_day: int) -> None:
    """Many looks at 100 independent canaries: at most 5 %, so more than 12 would come once in 700 runs."""
    days, promoted = 42, 0
    for seed in range(100):
        challenger, champion = arms(seed, days * rows_a_day, 0.05)
        blocks = np.arange(days * rows_a_day) // rows_a_day
        for day in range(5, days + 1, 4):
            rows = day * rows_a_day
            comparison = compare_pairs(challenger[:rows], champion[:rows], blocks[:rows], day)
            rollout = Rollout(margin=0.05, minimum=50)
            action = check_traffic(comparison, rollout, subject="late/2", reference="late/1").action
            if action != "hold":
                promoted += action == "promote"
                break
    assert promoted <= 12


def test_within_a_week_a_challenger_is_only_promoted_with_a_lower_loss() -> None:
    """Calm days look independent: one that is measured as worse, though by less than the margin, waits for a week."""

    def decide(mean: float, days: int) -> Verdict:
        random = np.random.default_rng(1)
        differences = random.normal(0, 0.05, 100 * days)
        differences += mean - differences.mean()
        days_of_rows = np.repeat(np.arange(days), 100)
        comparison = compare_pairs(0.5 + differences, np.full(len(differences), 0.5), days_of_rows, days)
        return check_traffic(comparison, Rollout(minimum=100, margin=0.05), subject="late/2", reference="late/1")

    assert decide(-0.001, 3).action == "promote"
    assert [decide(0.01, days).action for days in (3, 5, 6)] == ["hold"] * 3
    assert decide(0.01, 7).reason.startswith("not worse")
    assert decide(0.2, 3).action == "rollback"
