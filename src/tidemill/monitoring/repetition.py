"""Repetition: a value of the watch fails only if several of its last evaluations were beyond the limit."""

from collections.abc import Sequence

from msgspec.structs import replace

from tidemill.core.check import Verdict
from tidemill.core.policy import WatchValue

_EVALUATION = "evaluation"


def parse_repetition(value: WatchValue) -> tuple[int, int]:
    """Return how many of how many evaluations must be beyond the limit.

    >>> parse_repetition(WatchValue(value="drift", limit=0.3, action="retrain", repetition="2 of 3"))
    (2, 3)
    """
    needed, _, evaluations = value.repetition.partition(" of ")
    return int(needed), int(evaluations)


def require_repetition(verdict: Verdict, value: WatchValue, earlier: Sequence[Verdict]) -> Verdict:
    """Return a verdict that fails only if enough of the last evaluations of its value were beyond the limit.

    `earlier` are the verdicts of earlier evaluations of the same champion, newest first. A verdict that does not fail
    itself is returned with its outcome: a value within its limit needs no action.
    """
    needed, evaluations = parse_repetition(value)
    if evaluations == 1:
        return verdict
    is_beyond = verdict.outcome == "fail"
    identity = {"value": value.value, "limit": value.limit}
    evidence = verdict.evidence | {_EVALUATION: {**identity, "beyond": is_beyond}}
    records = [past.evidence[_EVALUATION] for past in earlier if _EVALUATION in past.evidence]
    same = [record["beyond"] for record in records if all(record[name] == identity[name] for name in identity)]
    count = is_beyond + sum(same[: evaluations - 1])
    if not is_beyond or count >= needed:
        return replace(verdict, evidence=evidence)
    reason = f"{verdict.reason}; beyond its limit in {count} of the last {evaluations} evaluations ({needed} needed)"
    return replace(verdict, outcome="undecided", action="hold", reason=reason, evidence=evidence)
