"""Compares the models of one training in two environments: their answers for the same rows, and their metrics."""

import numpy as np
from msgspec import Struct, to_builtins

from tidemill.core.check import Verdict
from tidemill.core.metric import find_metric_info
from tidemill.core.upgrade import Upgrade, VersionChange
from tidemill.data.arrays import Floats

CHECK = "upgrade_equivalence"
_SHOWN = 5


class ReferenceAnswers(Struct, frozen=True, kw_only=True):
    """What the reference training gave in one environment.

    Attributes
    ----------
    scores
        The answers: a number for each row, or the probabilities of the classes.
    classes
        The classes, in the order of the probabilities.
    metrics
        The metrics on the test rows.
    packages
        The installed packages, and `python`, with their versions.
    problem
        Why there are no answers; `is_build` if the environment could not be made.
    """

    scores: list[list[float]] = []
    classes: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    packages: dict[str, str] = {}
    problem: str = ""
    is_build: bool = False


class EnvironmentDifference(Struct, frozen=True, kw_only=True):
    """How much the answers and the metrics of two environments differ.

    Attributes
    ----------
    rows
        The number of rows that both answered.
    largest
        The largest difference of two answers.
    mean
        The mean difference.
    share
        The share of rows with a difference above the limit.
    decisions
        The share of rows with another predicted class.
    worse
        The metrics that are worse beyond the limit, each with its old and its new value.
    metrics
        All metrics, each with its old and its new value.
    reason
        Why the environments are not equivalent; empty if they are.
    """

    rows: int = 0
    largest: float = 0.0
    mean: float = 0.0
    share: float = 0.0
    decisions: float = 0.0
    worse: dict[str, tuple[float, float]] = {}
    metrics: dict[str, tuple[float, float]] = {}
    reason: str = ""


def compare_answers(old: ReferenceAnswers, new: ReferenceAnswers, limits: Upgrade) -> EnvironmentDifference:
    """Compare two environments that both have answers, or of which the new one has none.

    >>> same = ReferenceAnswers(scores=[[0.2, 0.8]], classes=("no", "yes"))
    >>> compare_answers(same, same, Upgrade()).reason
    ''
    """
    if new.problem:
        return EnvironmentDifference(reason=f"the training fails: {new.problem}")
    if old.classes != new.classes or len(old.scores) != len(new.scores):
        return EnvironmentDifference(
            reason=f"the classes differ: {', '.join(old.classes)} before, {', '.join(new.classes)} after"
        )
    earlier, later = np.array(old.scores, float), np.array(new.scores, float)
    differences = _measure(earlier, later, is_classification=bool(old.classes))
    share = float((differences > limits.predictions).mean()) if len(differences) else 0.0
    metrics = {name: (value, new.metrics[name]) for name, value in old.metrics.items() if name in new.metrics}
    worse = {name: pair for name, pair in metrics.items() if _is_worse(name, *pair, limits.metrics)}
    reasons = []
    if share > limits.share:
        reasons.append(
            f"{share:.1%} of {len(differences)} answers differ by more than {limits.predictions:g} "
            f"(at most {limits.share:.1%}; the largest difference is {differences.max():.3g})"
        )
    reasons += [
        f"{name} is worse: {pair[1]:.4f} instead of {pair[0]:.4f}" for name, pair in list(worse.items())[:_SHOWN]
    ]
    return EnvironmentDifference(
        rows=len(differences),
        largest=float(differences.max(initial=0.0)),
        mean=float(differences.mean()) if len(differences) else 0.0,
        share=share,
        decisions=float((earlier.argmax(axis=1) != later.argmax(axis=1)).mean())
        if old.classes and len(earlier)
        else 0.0,
        worse=worse,
        metrics=metrics,
        reason="; ".join(reasons),
    )


def _measure(before: Floats, after: Floats, *, is_classification: bool) -> Floats:
    """Return the difference of each row, shape (rows,): infinite if one of the two answers is not finite."""
    if not before.size:
        return np.empty(0)
    scale = 1.0 if is_classification else float(np.std(before)) or 1.0
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0.0, np.nan_to_num(np.abs(after - before) / scale, nan=np.inf))
    return np.asarray(differences.max(axis=1), float)


def _is_worse(name: str, before: float, after: float, limit: float) -> bool:
    rise = before - after if find_metric_info(name).greater_is_better else after - before
    return rise > limit * max(abs(before), 1e-12)


def judge_upgrade(
    subject: str,
    changes: tuple[VersionChange, ...],
    old: ReferenceAnswers,
    difference: EnvironmentDifference,
    *,
    culprits: tuple[str, ...] = (),
    noise: EnvironmentDifference | None = None,
    answered: str = "",
) -> Verdict:
    """Return the verdict on an upgrade.

    Parameters
    ----------
    culprits
        The packages that made the difference.
    noise
        The difference of two trainings in the old environment: if they differ too, no upgrade can be judged.
    answered
        What the rows are that both models answered.
    """
    names = ", ".join(str(change) for change in changes[:_SHOWN])
    names += f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    evidence = {
        "changes": to_builtins(changes),
        "difference": to_builtins(difference),
        "culprits": list(culprits),
        "answered": answered,
    }
    if old.problem:
        reason = f"the old environment cannot be judged: {old.problem}"
        return Verdict(
            check=CHECK, subject=subject, outcome="undecided", action="stop", reason=reason, evidence=evidence
        )
    if noise is not None and noise.reason:
        reason = f"the training is not deterministic: a second one in the old environment differs: {noise.reason}"
        return Verdict(
            check=CHECK, subject=subject, outcome="undecided", action="stop", reason=reason, evidence=evidence
        )
    if difference.reason:
        by_name = {change.package: change for change in changes}
        by = " and ".join(str(by_name.get(name, name)) for name in culprits)
        reason = f"{difference.reason}; made by {by}" if by else f"{difference.reason}; after {names}"
        return Verdict(check=CHECK, subject=subject, outcome="fail", action="stop", reason=reason, evidence=evidence)
    reason = f"equal answers for {difference.rows} rows within the limits, after {names or 'no change'}"
    return Verdict(check=CHECK, subject=subject, outcome="pass", action="proceed", reason=reason, evidence=evidence)
