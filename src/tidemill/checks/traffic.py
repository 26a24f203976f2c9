"""Compares a challenger with the champion by their losses on live rows, at any number of looks."""

import math
from datetime import timedelta

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.guards import LiveBehaviour, fails_too_often, find_harm
from tidemill.checks.sequential import Sequence, find_bounds, find_one_look, widen_by_blocks
from tidemill.clock import parse_duration
from tidemill.core.check import Action, Outcome, Verdict
from tidemill.core.rollout import Rollout
from tidemill.data.arrays import Floats, Ints

_DEFAULT_BLOCKS = 20
_LEAST_BLOCKS = 3  # complete blocks of time that decide
_LEAST_DEPENDENT_BLOCKS = 7  # where rows depend on each other: a week of days
_DEPENDENT = 1.3  # times the variance of independent rows: rows depend on each other
_EFFECT_MARGINS = 2.0  # a difference of so many margins from the bound is found soonest
_LEAST_HARM_LABELS, _HARM_PARTS, _HARM_ALPHA, _HARM_SHARE = 24, 8, 0.001, 0.25
_GROSS_SHARE = 0.5
_GROSS_ERRORS = 6.0  # of independent rows: the means of real streams vary up to 5.5 times as much
_LAST_CONFIDENCE = 0.8  # of dependent rows, whose error is estimated from above
_MOST_FAILURES = 0.5  # a champion that fails on more of its rows cannot replace the challenger


class LossComparison(Struct, frozen=True, kw_only=True):
    """The differences of the losses (challenger minus champion), in the order of time.

    `decided` are those that decide: of the rows in complete blocks of time, with the `indices` of the blocks, or the
    differences of the arms' means in these blocks if the arms answered different rows (`same_rows` is false).
    `differences` are those of all labelled rows. `blocks` is the number of complete blocks, `rows` are their labelled
    rows, `labels` all of them. `broken` and `champion_broken` are rows with a prediction that is not finite.
    `shows_days` is false if the rows cannot show how much days differ.
    """

    decided: Floats
    indices: Ints
    differences: Floats
    blocks: int
    rows: int
    labels: int
    challenger_loss: float
    champion_loss: float
    same_rows: bool = True
    broken: int = 0
    champion_broken: int = 0
    shows_days: bool = True


class CanaryClock(Struct, frozen=True, kw_only=True):
    """How far a canary is: before its shortest duration, in its extension, or at its end.

    `blocks` is the number of blocks of time in the duration without an extension; None if all are. `share` is that of
    the requests which the challenger serves now; None if it does not change.
    """

    early: bool = False
    blocks: int | None = None
    extended: bool = False
    ended: bool = False
    share: float | None = None
    is_awaited: bool = False


_RUNNING, _NOTHING = CanaryClock(), LiveBehaviour()


def compare_pairs(
    challenger: Floats,
    champion: Floats,
    indices: Ints | None = None,
    closed: int | None = None,
    *,
    shows_days: bool = True,
) -> LossComparison:
    """Compare losses on the same labelled rows, each of shape (rows,), in the order of time.

    `indices` are the blocks of the rows; by default, twenty blocks of the same size. Only blocks before `closed` are
    used for the decision: a part of the rows of a later block is still to come. `shows_days` is false if the rows
    cannot show how much days differ, because they are of too few days, or arrived in batches.
    """
    finite, usable = np.isfinite(challenger), np.isfinite(champion)
    broken, without = int((~finite).sum()), int((~usable).sum())
    usable &= finite
    challenger, champion = challenger[usable], champion[usable]
    differences = challenger - champion
    if indices is None:
        indices = np.arange(len(differences)) * _DEFAULT_BLOCKS // max(len(differences), 1)
    else:
        indices = indices[usable]
    complete = np.ones(len(indices), dtype=bool) if closed is None else indices < closed
    decided = differences[complete]
    return LossComparison(
        decided=decided,
        indices=indices[complete],
        differences=differences,
        blocks=int(np.count_nonzero(np.diff(indices[complete]))) + bool(len(decided)),
        rows=len(decided),
        labels=len(differences),
        challenger_loss=_find_mean(challenger),
        champion_loss=_find_mean(champion),
        broken=broken,
        champion_broken=without,
        shows_days=shows_days,
    )


def compare_arms(
    challenger: tuple[Floats, Ints], champion: tuple[Floats, Ints], closed: int | None = None
) -> LossComparison:
    """Compare losses of two arms on rows of their own: (losses, blocks) of each, in the order of time.

    The observation of a block is the difference of the arms' mean losses in it; blocks without rows of both arms are
    not used.
    """
    arms = []
    for losses, indices in (challenger, champion):
        finite = np.isfinite(losses) & (indices < closed if closed is not None else True)
        arms.append((losses[finite], indices[finite]))
    common = np.intersect1d(arms[0][1], arms[1][1])
    means, rows = [], []
    for losses, indices in arms:
        is_common = np.isin(indices, common)
        position = np.searchsorted(common, indices[is_common])
        counts = np.bincount(position, minlength=len(common))
        means.append(np.bincount(position, losses[is_common], minlength=len(common)) / np.maximum(counts, 1))
        rows.append(int(counts.sum()))
    return LossComparison(
        decided=means[0] - means[1],
        indices=np.arange(len(common), dtype=np.int64),
        differences=np.empty(0),
        blocks=len(common),
        rows=min(rows),
        labels=int(min(len(losses) for losses, _ in arms)),
        challenger_loss=_find_mean(arms[0][0]),
        champion_loss=_find_mean(arms[1][0]),
        same_rows=False,
        broken=int((~np.isfinite(challenger[0])).sum()),
        champion_broken=int((~np.isfinite(champion[0])).sum()),
    )


def check_traffic(
    comparison: LossComparison,
    rollout: Rollout,
    *,
    subject: str,
    reference: str,
    clock: CanaryClock = _RUNNING,
    behaviour: LiveBehaviour = _NOTHING,
) -> Verdict:
    """Return a verdict on a challenger from its losses and the champion's; it can be called at any time, and often.

    Each bound of the mean difference holds at all looks at once (see `tidemill.checks.sequential`), with the
    probability `rollout.confidence`. A challenger is promoted when the upper bound is at most `rollout.margin`, in the
    mode of superiority when it is below 0; it is rolled back when the lower bound is above that. Rows that are
    independent decide after three complete blocks of time; before seven, only a lower loss promotes. If rows depend on
    each other, or may do so unseen, seven blocks are required, and the bounds are at least as wide as those from the
    means of the blocks.

    Before that, before there are `rollout.minimum` labels, or before its shortest duration, only harm stops it:
    predictions that are not finite, a guard rail, or a loss that is higher by a quarter of the champion's beyond any
    doubt.

    At the end of its time an undecided canary gets the action of `rollout.undecided`. A champion that fails on most of
    its rows does not replace a challenger that answers. With `better`, two more looks decide: at the rows of the
    duration without an extension, and at all rows at the end. The challenger is promoted if its loss is lower, and its
    difference is below the margin by a bound for one look, which is narrower than one for all looks; it is rolled back
    at the first of the two if its loss is higher by the margin. A newer release has learned newer rows: if one waits,
    the extension ends as soon as there are enough labels for the second look.
    """
    clock = _end_if_awaited(clock, comparison, rollout)
    bounds, needed = _find_decision_bounds(comparison, rollout)
    evidence = _describe(comparison, bounds, rollout, clock)

    def create_verdict(outcome: Outcome, action: Action, reason: str) -> Verdict:
        return Verdict(
            check="traffic",
            subject=subject,
            reference=reference,
            outcome=outcome,
            action=action,
            reason=reason,
            evidence=dict(evidence),
        )

    harm = _find_harm_in_losses(comparison, rollout)
    # Where there are labels, they show harm: another distribution of the predictions alone is none.
    has_labels = comparison.labels >= _LEAST_HARM_LABELS
    problem, numbers = find_harm(rollout, behaviour, with_distance=not (has_labels or clock.early))
    evidence |= numbers
    if comparison.broken:
        rows = comparison.labels + comparison.broken
        harm = f"its predictions are not finite on {comparison.broken} of {rows} rows"
    if harm or problem:
        return create_verdict("fail", "rollback", harm or problem)
    is_decidable = comparison.rows >= rollout.minimum and comparison.blocks >= needed and not clock.early
    # Calm days look independent, and busy ones follow: within a week, only a lower loss is a proof.
    is_shown = bounds.mean < 0 or comparison.blocks >= _LEAST_DEPENDENT_BLOCKS
    limit = rollout.margin if rollout.mode == "non-inferiority" else 0.0
    losses = _format_losses(comparison, bounds)
    if (
        is_decidable
        and is_shown
        and (bounds.upper <= limit if rollout.mode == "non-inferiority" else bounds.upper < limit)
    ):
        return create_verdict("pass", "promote", f"{'better' if bounds.mean < 0 else 'not worse'}: {losses}")
    if is_decidable and bounds.lower > limit:
        return create_verdict("fail", "rollback", f"worse: {losses}")
    if rollout.undecided == "better" and (clock.extended or clock.ended):
        action, about = _decide_better(comparison, rollout, clock, bounds)
        if action is not None:
            return create_verdict("undecided", action, f"{about}: {losses}")
    is_few = comparison.rows < rollout.minimum or comparison.blocks < needed or not math.isfinite(bounds.upper)
    status = _format_few(comparison, rollout, needed) if is_few else losses
    if not clock.ended:
        still = "not decided yet, and extended" if clock.extended else "not decided yet"
        share = choose_share(comparison, rollout, clock)
        if share is not None and share != clock.share:
            evidence["share"] = share
            return create_verdict("undecided", "step", f"{still}: {status}; the challenger serves {share:.0%}")
        return create_verdict("undecided", "hold", f"{still}: {status}")
    why = _find_ending(clock)
    if behaviour.champion.share > _MOST_FAILURES and fails_too_often(behaviour.champion, rollout.failures):
        failed = f"the champion failed to answer {behaviour.champion.failed} of {behaviour.champion.asked} rows"
        if behaviour.challenger.asked > behaviour.challenger.failed:
            return create_verdict("warn", "promote", f"{failed}, and {why}: {status}")
    if rollout.undecided == "challenger":
        return create_verdict("undecided", "promote", f"{why}, without a proof of harm: {status}")
    return create_verdict("undecided", "rollback", f"{why}, without a proof: {status}")


def _end_if_awaited(clock: CanaryClock, comparison: LossComparison, rollout: Rollout) -> CanaryClock:
    """Return a clock that has ended, and `is_awaited`, if a newer release ends the extension."""
    has_enough = comparison.rows >= rollout.minimum and comparison.blocks >= _LEAST_BLOCKS
    if rollout.undecided == "better" and clock.extended and clock.is_awaited and has_enough:
        return replace(clock, extended=False, ended=True)
    return replace(clock, is_awaited=False)


def _find_ending(clock: CanaryClock) -> str:
    return "a newer release waits" if clock.is_awaited else "its time is up"


def choose_share(comparison: LossComparison, rollout: Rollout, clock: CanaryClock) -> float | None:
    """Return the share of the requests that the challenger should serve; None where it does not change.

    After the shortest duration, the release with the lower live loss serves most of them: a challenger with a lower
    loss in a canary with an extension and `undecided = "better"`, the champion in all canaries. Nothing is promoted by
    this: the rules for a promotion stay the same.
    """
    if clock.early or clock.share is None or comparison.rows < rollout.minimum or not comparison.same_rows:
        return None
    if comparison.challenger_loss >= comparison.champion_loss:
        return min(clock.share, rollout.share)
    can_extend = rollout.undecided == "better" and parse_duration(rollout.extension) > timedelta(0)
    return max(clock.share, rollout.extended_share) if can_extend else None


def check_answers(behaviour: LiveBehaviour, limit: float, *, subject: str) -> Verdict | None:
    """Return a verdict on a champion that fails on more than a share `limit` of its rows; None if it does not."""
    answers = behaviour.champion
    if not fails_too_often(answers, limit):
        return None
    return Verdict(
        check="answers",
        subject=subject,
        outcome="fail",
        action="experiment",
        reason=f"the champion failed to answer {answers.failed} of {answers.asked} rows: callers got errors for them",
        evidence={"failed": answers.failed, "asked": answers.asked, "share": answers.share, "limit": limit},
    )


def _find_harm_in_losses(comparison: LossComparison, rollout: Rollout) -> str:
    """Return a text if the loss is higher beyond doubt, and by much, on the few rows so far; else an empty text."""
    if len(comparison.differences) < max(_LEAST_HARM_LABELS, min(rollout.minimum // 4, 100)):
        return ""
    effect = _HARM_SHARE * abs(comparison.champion_loss)
    parts = np.arange(comparison.labels) * _HARM_PARTS // comparison.labels
    bounds = find_bounds(comparison.differences, _HARM_ALPHA, effect)
    bounds = widen_by_blocks(bounds, comparison.differences, parts, _HARM_ALPHA, effect)
    # A much higher loss of a challenger that is wrong on a part of the rows varies too much for bounds.
    error = float(comparison.differences.std()) / math.sqrt(comparison.labels)
    is_gross = bounds.mean - rollout.margin > max(_GROSS_SHARE * abs(comparison.champion_loss), _GROSS_ERRORS * error)
    if is_gross:
        losses = f"live loss {comparison.challenger_loss:.4f} against {comparison.champion_loss:.4f}"
        return f"much worse: {losses} on the same {comparison.labels} rows, difference {bounds.mean:+.4f}"
    is_large = bounds.mean - rollout.margin > _HARM_SHARE * abs(comparison.champion_loss)
    if bounds.lower <= rollout.margin or not is_large:
        return ""
    return f"clearly worse: {_format_losses(comparison, bounds)}"


def _describe(
    comparison: LossComparison, bounds: Sequence, rollout: Rollout, clock: CanaryClock
) -> dict[str, float | str | bool]:
    """Return the numbers of a comparison; bounds that are infinite are left out."""
    evidence: dict[str, float | str | bool] = {
        "rows": comparison.rows,
        "labels": comparison.labels,
        "minimum": rollout.minimum,
        "margin": rollout.margin,
        "mode": rollout.mode,
        "blocks": comparison.blocks,
        "memory": bounds.memory,
        "inflation": bounds.inflation,
        "same_rows": comparison.same_rows,
        "extended": clock.extended,
    }
    if comparison.champion_broken:
        evidence["champion_not_finite"] = comparison.champion_broken
    numbers = {
        "challenger_loss": comparison.challenger_loss,
        "champion_loss": comparison.champion_loss,
        "difference": bounds.mean,
        "lower": bounds.lower,
        "upper": bounds.upper,
    }
    return evidence | {name: value for name, value in numbers.items() if math.isfinite(value)}


def _format_losses(comparison: LossComparison, bounds: Sequence) -> str:
    rows = f"the same {comparison.labels} rows" if comparison.same_rows else f"{comparison.labels} rows of each"
    text = f"live loss {comparison.challenger_loss:.4f} against {comparison.champion_loss:.4f} on {rows}"
    return f"{text}, difference {bounds.mean:+.4f} ({bounds.lower:+.4f} to {bounds.upper:+.4f})"


def _format_few(comparison: LossComparison, rollout: Rollout, needed: int) -> str:
    labels = f"{comparison.labels} labels (minimum {rollout.minimum})"
    text = f"{labels} in {comparison.blocks} complete blocks of time (minimum {needed}"
    return f"{text}, as rows may depend on each other)" if needed > _LEAST_BLOCKS else f"{text})"


def _find_decision_bounds(comparison: LossComparison, rollout: Rollout) -> tuple[Sequence, int]:
    """Return the bounds of the difference, and the complete blocks of time that decide.

    Both are larger where rows depend on each other, or may do so unseen.
    """
    alpha, effect = 1 - rollout.confidence, _EFFECT_MARGINS * rollout.margin
    bounds = find_bounds(comparison.decided, alpha, effect)
    if not comparison.same_rows:
        return bounds, _LEAST_DEPENDENT_BLOCKS
    if comparison.shows_days and bounds.inflation <= _DEPENDENT:
        return bounds, _LEAST_BLOCKS
    return widen_by_blocks(bounds, comparison.decided, comparison.indices, alpha, effect), _LEAST_DEPENDENT_BLOCKS


def _decide_better(
    comparison: LossComparison, rollout: Rollout, clock: CanaryClock, bounds: Sequence
) -> tuple[Action | None, str]:
    """Return the action on a canary after its duration by the bound of one look, and why; None if it goes on.

    The first look is at the rows of the duration, whenever their labels become known; the last one at all rows. In the
    last look at rows that depend on each other the bound has a confidence of .8: their error is estimated from above,
    and on real streams this bound promotes fewer than one of twenty challengers that are worse by the margin. Where
    rows depend on each other for weeks, it proves nothing. A loss that is lower by the margin is enough then: of a
    challenger that is worse by the margin, this would be an error of two margins.
    """
    first = comparison.indices < (clock.blocks if clock.blocks is not None else comparison.blocks)
    values, indices = comparison.decided[first], comparison.indices[first]
    if len(values) >= rollout.minimum or (len(values) and not comparison.same_rows):
        mean, upper = find_one_look(values, indices, rollout.confidence)
        if mean < 0 and upper <= rollout.margin:
            return "promote", f"{_find_ending(clock)}, and its live loss is lower"
        if mean > max(rollout.margin, 0.0):
            return "rollback", f"{_find_ending(clock)}, and its live loss is higher"
    if not clock.ended or comparison.rows < rollout.minimum:
        return None, ""
    is_independent = comparison.same_rows and bounds.inflation <= _DEPENDENT
    confidence = rollout.confidence if is_independent else min(rollout.confidence, _LAST_CONFIDENCE)
    mean, upper = find_one_look(comparison.decided, comparison.indices, confidence)
    is_much_lower = math.isfinite(upper) and 0 < rollout.margin <= -mean
    if mean < 0 and (upper <= rollout.margin or is_much_lower):
        return "promote", f"{_find_ending(clock)}, and its live loss is lower"
    return None, ""


def _find_mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
