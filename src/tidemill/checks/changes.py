"""Finds changes in the losses of a model as labels arrive, by detectors of river: ADWIN and Page-Hinkley."""

from datetime import datetime
from importlib import import_module
from typing import Any

import numpy as np
from msgspec import Struct

from tidemill.core.check import Action, Outcome, Verdict
from tidemill.core.watch import DetectorName
from tidemill.data.arrays import Floats
from tidemill.errors import MissingExtra

_LEAST_SINCE = 30
_TITLES = {"adwin": "ADWIN", "page_hinkley": "Page-Hinkley"}


class LossChange(Struct, frozen=True, kw_only=True):
    """A change of the mean loss: noticed at the row with the index `row`, from one mean to another."""

    row: int
    before: float
    after: float


def find_increases(losses: Floats, detector: DetectorName) -> list[LossChange]:
    """Return the increases of the mean of losses, shape (rows,), in the order in which their labels became known.

    ADWIN (Bifet and Gavaldà 2007, "Learning from time-changing data with adaptive windowing") drops the older part of
    its window when the means of two parts differ. Page-Hinkley (Page 1954, "Continuous inspection schemes") adds up how
    far losses are above their mean. Both have river's default parameters and get losses in standard deviations, so that
    the parameters mean the same for every model. Both assume independent rows.

    Raises
    ------
    MissingExtra
        if river is not installed.
    """
    deviation = float(losses.std()) if len(losses) else 0.0
    if not deviation or not np.isfinite(deviation):
        return []
    found = _create(detector)
    increases, start = [], 0
    for row, loss in enumerate((losses / deviation).tolist()):
        found.update(loss)
        if not found.drift_detected:
            continue
        first = _find_change(found, detector, losses, start, row)
        before, after = float(losses[start:first].mean()), float(losses[first : row + 1].mean())
        if after > before:
            increases.append(LossChange(row=row, before=before, after=after))
        start = first
    return increases


def check_changes(
    detector: DetectorName,
    losses: Floats,
    known_at: list[datetime],
    *,
    subject: str,
    limit: float,
    action: Action,
    minimum: int,
) -> Verdict:
    """Return a verdict on the losses of labelled rows: `action` if the mean loss increased by more than `limit`.

    The newest increase counts, by the mean loss of the rows since it was noticed, as soon as there are 30 of them.
    """
    title = _TITLES[detector]
    evidence: dict[str, Any] = {"detector": detector, "rows": len(losses), "limit": limit}

    def create_verdict(outcome: Outcome, action: Action, reason: str) -> Verdict:
        return Verdict(
            check="change", subject=subject, outcome=outcome, action=action, reason=reason, evidence=evidence
        )

    if len(losses) < minimum:
        return create_verdict("undecided", "hold", f"{len(losses)} labels are too few (minimum {minimum})")
    increases = find_increases(losses, detector)
    if not increases:
        return create_verdict("pass", "proceed", f"{title} finds no increase of the loss in {len(losses)} labels")
    newest = increases[-1]
    newer = losses[newest.row :]
    since = float(newer.mean()) if len(newer) >= _LEAST_SINCE else newest.after
    rise = since - newest.before
    evidence |= {
        "increases": len(increases),
        "noticed_at": known_at[newest.row].isoformat(),
        "loss_before": newest.before,
        "loss_since": since,
        "rise": rise,
    }
    reason = (
        f"{title} noticed at {known_at[newest.row]:%Y-%m-%d %H:%M} an increase of the loss from {newest.before:.4f} to "
        f"{since:.4f} (by {rise:+.4f}, limit {limit:g}); it assumes independent rows"
    )
    if rise > limit:
        return create_verdict("fail", action, reason)
    return create_verdict("pass", "proceed", reason)


def _create(detector: DetectorName) -> Any:
    try:
        drift: Any = import_module("river.drift")
    except ModuleNotFoundError:
        raise MissingExtra("river", "online") from None
    return drift.ADWIN() if detector == "adwin" else drift.PageHinkley(mode="up")


def _find_change(found: Any, detector: DetectorName, losses: Floats, start: int, row: int) -> int:
    """Return the index of the first row after the change: ADWIN keeps these rows; otherwise the best single cut."""
    if detector == "adwin":
        return min(max(row + 1 - int(found.width), start + 1), row)
    part = losses[start : row + 1]
    if len(part) < 3:
        return row
    sizes = np.arange(1, len(part))
    sums = np.cumsum(part)[:-1]
    gain = (sums / sizes - (part.sum() - sums) / (len(part) - sizes)) ** 2 * sizes * (len(part) - sizes)
    return start + 1 + int(gain.argmax())
