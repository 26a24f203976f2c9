"""Checks an online learner: its losses on rows just before it learned them, and how long labels wait for it."""

from datetime import datetime
from typing import Any

from msgspec import Struct, to_builtins

from tidemill.checks.gate import Finding
from tidemill.core.check import Action, Verdict
from tidemill.core.policy import Gate
from tidemill.data.arrays import Floats
from tidemill.data.dependence import estimate_inflation
from tidemill.data.metrics import bootstrap_interval


class LabelTimes(Struct, frozen=True, kw_only=True):
    """When the labels that a release learned became known: the first, the tenth of a hundred, the middle, the last."""

    first: datetime
    tenth: datetime
    middle: datetime
    last: datetime


class Learning(Struct, frozen=True, kw_only=True):
    """What the manifest of a learner's package states: the rows of its newest update and of all, and their labels."""

    rows: int
    all_rows: int
    labels: LabelTimes


class TestThenTrain(Struct, frozen=True, kw_only=True):
    """The mean losses on the same rows: of a learner just before it learned each one, and of the champion.

    `low` and `high` are the interval of the difference.
    """

    __test__ = False  # pytest collects no class of this name

    rows: int
    loss: float
    champion_loss: float
    low: float
    high: float


def compare_learner(learner: Floats, champion: Floats, policy: Gate) -> TestThenTrain:
    """Compare the losses of a learner with those of the champion, which did not learn, on rows in their order.

    Rows that are near each other may be alike: the interval is as much wider as `estimate_inflation` requires.
    """
    difference = learner - champion
    middle, inflation = float(difference.mean()), estimate_inflation(difference)
    low, high = (middle + inflation * (bound - middle) for bound in bootstrap_interval(difference, policy.confidence))
    return TestThenTrain(
        rows=len(learner), loss=float(learner.mean()), champion_loss=float(champion.mean()), low=low, high=high
    )


def check_test_then_train(compared: TestThenTrain, policy: Gate) -> Finding:
    """Return a failure if a learner that learns these rows is proven worse on them than one that does not."""
    evidence = {
        "learned_rows": compared.rows,
        "test_then_train_loss": compared.loss,
        "loss_without_learning": compared.champion_loss,
        "learning_against_champion": (compared.low, compared.high),
    }
    summary = (
        f"loss {compared.loss:.4f} just before each of {compared.rows} rows was learned, against "
        f"{compared.champion_loss:.4f} without learning ({compared.low:+.4f} to {compared.high:+.4f})"
    )
    if not compared.low <= policy.margin:
        return Finding(
            about="test_then_train", outcome="fail", reason=f"learning makes it worse: {summary}", evidence=evidence
        )
    return Finding(about="test_then_train", reason=f"learning does not make it worse: {summary}", evidence=evidence)


class LabelWait(Struct, frozen=True, kw_only=True):
    """The labels that a champion has not learned, and those that its release learned, with its first answer."""

    waiting: int
    oldest: datetime | None
    learning: Learning | None
    first_answer: datetime | None


def check_learning(wait: LabelWait, now: datetime, *, subject: str, limit: float, action: Action) -> Verdict:
    """Return a verdict on labels: `action` where one waits for more than `limit` days, or waited so long in the middle.

    A label waits from the time at which it became known to the first answer of a release that has learned its row.
    """
    waiting_days = (now - wait.oldest).total_seconds() / 86400 if wait.oldest else 0.0
    delays = _measure_delays(wait)
    middle_days = delays["middle"] / 86400 if delays else 0.0
    is_beyond = max(waiting_days, middle_days) > limit
    parts = []
    if delays and wait.learning:
        middle, ninety, longest = (_format_seconds(delays[name]) for name in ("middle", "ninety", "longest"))
        parts.append(
            f"{wait.learning.rows} labels were used {middle} after they became known (median; 90 % within {ninety}, "
            f"all within {longest})"
        )
    elif wait.learning:
        parts.append(f"it has learned {wait.learning.rows} labels, and has not answered yet")
    parts.append(
        f"{wait.waiting} labels wait, the oldest since {waiting_days:.2f} days" if wait.waiting else "no label waits"
    )
    return Verdict(
        check="learning",
        subject=subject,
        outcome="fail" if is_beyond else "pass",
        action=action if is_beyond else "proceed",
        reason=f"{'; '.join(parts)} (limit {limit:g} days)",
        evidence={
            "waiting": wait.waiting,
            "oldest_days": waiting_days,
            "limit": limit,
            "learned": wait.learning.rows if wait.learning else 0,
            "label_to_answer_seconds": delays,
            "first_answer": to_builtins(wait.first_answer),
        },
    )


def _measure_delays(wait: LabelWait) -> dict[str, Any] | None:
    """Return the seconds from labels to the first answer; None before it."""
    if wait.learning is None or wait.first_answer is None:
        return None
    labels, answer = wait.learning.labels, wait.first_answer
    known = {"middle": labels.middle, "ninety": labels.tenth, "longest": labels.first}
    return {name: (answer - time).total_seconds() for name, time in known.items()}


def _format_seconds(seconds: float) -> str:
    """Return a duration in its largest unit.

    >>> _format_seconds(90), _format_seconds(7200)
    ('90 s', '2.0 h')
    """
    for limit, unit, text in ((600, 1, "{:.0f} s"), (7200, 60, "{:.0f} min"), (172_800, 3600, "{:.1f} h")):
        if seconds < limit:
            return text.format(seconds / unit)
    return f"{seconds / 86400:.1f} days"
