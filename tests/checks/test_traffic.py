"""The judge of a canary, on simulated arms: promote, roll back, or wait for more labels."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tidemill.checks.traffic import check_traffic
from tidemill.core.check import Verdict
from tidemill.data.arrays import Floats


def arms(seed: int, rows: int, worse: float = 0.0) -> tuple[Floats, Floats]:
    """The losses of challenger and champion on the same rows; their differences have a deviation of 0.3."""
    random = np.random.default_rng(seed)
    champion = random.gamma(2, 0.3, rows)
    return champion + random.normal(worse, 0.3, rows), champion


def judge(challenger: Floats, champion: Floats, **options: Any) -> Verdict:
    given = {"minimum": 300, "margin": 0.05, "expired": False} | options
    return check_traffic(challenger, champion, subject="late/2", reference="late/1", **given)


def over_seeds(worse: float, rows: int, **options: Any) -> Counter[str]:
    """How often each action is called for, of 200 times."""
    return Counter(judge(*arms(seed, rows, worse), **options).action for seed in range(200))


def test_an_equal_challenger_is_promoted_where_there_is_a_margin() -> None:
    actions = over_seeds(0.0, 400)
    assert actions["promote"] >= 180
    assert actions["rollback"] == 0


def test_without_a_margin_an_equal_challenger_is_decided_by_luck_as_rarely_as_stated() -> None:
    """Each side by chance with a probability of 5 %: more than 22 of 200 come once in 10,000 runs."""
    actions = over_seeds(0.0, 400, margin=0.0)
    assert actions["rollback"] <= 22
    assert actions["promote"] <= 22
    assert actions["hold"] >= 156


def test_a_better_challenger_is_always_promoted() -> None:
    assert over_seeds(-0.1, 400) == {"promote": 200}


def test_a_worse_challenger_is_always_rolled_back() -> None:
    assert over_seeds(0.2, 400) == {"rollback": 200}


def test_harm_is_not_waited_for() -> None:
    early = over_seeds(0.4, 100, minimum=400)
    assert early["rollback"] >= 195
    assert early["promote"] == 0


def test_early_looks_at_an_equal_challenger_do_not_end_it() -> None:
    assert over_seeds(0.0, 100, minimum=400)["hold"] >= 199


@pytest.mark.parametrize("rows", [0, 1, 74, 75, 299])
def test_few_labels_are_waited_for_and_none_forever(rows: int) -> None:
    waiting = judge(*arms(1, rows, 5.0 if rows < 75 else 0.0))
    assert (waiting.outcome, waiting.action) == ("undecided", "hold")
    assert f"{rows} of 300" in waiting.reason
    assert judge(*arms(1, rows), expired=True).action == "rollback"


def test_what_cannot_be_decided_goes_back_when_its_time_is_up() -> None:
    undecided = next(seed for seed in range(99) if judge(*arms(seed, 400), margin=0.0).action == "hold")
    late = judge(*arms(undecided, 400), margin=0.0, expired=True)
    assert (late.outcome, late.action) == ("undecided", "rollback")


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


def test_an_answer_that_is_no_number_is_rolled_back_at_once() -> None:
    challenger, champion = arms(1, 10)
    challenger[3] = np.nan
    verdict = judge(challenger, champion)
    assert (verdict.outcome, verdict.action) == ("fail", "rollback")
    assert "not finite on 1 of 10 rows" in verdict.reason


def test_rows_that_the_champion_did_not_answer_are_not_compared() -> None:
    challenger, champion = arms(1, 400)
    champion[::4] = np.nan
    verdict = judge(challenger, champion)
    assert verdict.action == "promote"
    assert (verdict.evidence["rows"], verdict.evidence["champion_not_finite"]) == (300, 100)
