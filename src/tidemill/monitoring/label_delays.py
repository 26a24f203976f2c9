"""Delays of labels in a window: from the event of a row to its label, and whether as many are known as usual.

The usual delays come from the windows before, as counts in the evidence of each verdict: the next evaluation reads one
verdict and no old predictions.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from tidemill.core.check import Verdict
from tidemill.data.arrays import Floats

EVIDENCE = "label_delays"
_STEPS = 24
_FORGET = 0.5  # of the counts of the windows before, with each new window
_WHOLE = 0.99


class DelayMemory(Struct, frozen=True, kw_only=True):
    """The counts of earlier windows of a length: of the rows that were that old, and of those with a label by then.

    The ages are the steps from 0 to the length of the window. `until` is the end of the newest window.
    """

    seconds: float
    until: datetime
    rows: list[float]
    known: list[float]


class LabelDelays(Struct, frozen=True, kw_only=True):
    """The labels of a window: the share of its rows with a label, the share that is usual for rows of their age, and
    the delays in seconds within which half and 90 % of the labels are known (None: longer than the window).
    """

    rows: int
    known: float
    usual: float | None
    median: float | None
    ninety: float | None


def measure_delays(
    rows: pl.DataFrame, now: datetime, length: timedelta, earlier: Sequence[Verdict]
) -> tuple[LabelDelays, DelayMemory] | None:
    """Return the delays of a window's labels, and the memory for the next evaluation; None for an empty window.

    `rows` are predictions with `time`, and with `truth_known_at` where they have a label. A row without a label counts
    only for the ages that it has reached: labels that are late are not missing.
    """
    if rows.is_empty():
        return None
    seconds = length.total_seconds()
    grid = np.linspace(0.0, seconds, _STEPS + 1)
    ages = _to_seconds(pl.Series([now]).cast(rows.schema["time"]).item() - rows["time"])
    delays = np.where(rows["truth_known_at"].is_null(), np.inf, _to_seconds(rows["truth_known_at"] - rows["time"]))
    reached = ages[:, None] >= grid
    counts = reached.sum(axis=0).astype(float)
    known = (reached & (delays[:, None] <= grid)).sum(axis=0).astype(float)
    memory = _read_memory(earlier, seconds)
    usual = None
    if memory is not None:
        usual = float(np.interp(ages, grid, _to_shares(np.array(memory.rows), np.array(memory.known))).mean())
    shares = _to_shares(counts, known)
    found = LabelDelays(
        rows=rows.height,
        known=float(np.isfinite(delays).mean()),
        usual=usual,
        median=_find_age(shares, grid, 0.5),
        ninety=_find_age(shares, grid, 0.9),
    )
    if memory is None or now >= memory.until + length:
        before = (np.array(memory.rows), np.array(memory.known)) if memory else (0.0, 0.0)
        memory = DelayMemory(
            seconds=seconds,
            until=now,
            rows=(_FORGET * before[0] + counts).tolist(),
            known=(_FORGET * before[1] + known).tolist(),
        )
    return found, memory


def add_delays(verdict: Verdict, delays: LabelDelays, memory: DelayMemory) -> Verdict:
    """Return a verdict with the delays in its evidence, and in its reason if labels of the window are not known yet."""
    evidence: dict[str, Any] = {EVIDENCE: to_builtins(delays) | {"memory": to_builtins(memory)}}
    reason = verdict.reason
    if delays.known < _WHOLE:
        reason += f"; {delays.known:.0%} of the labels of this window are known"
        reason += f" (usual for rows of this age: {delays.usual:.0%})" if delays.usual is not None else ""
    return replace(verdict, evidence=verdict.evidence | evidence, reason=reason)


def _read_memory(earlier: Sequence[Verdict], seconds: float) -> DelayMemory | None:
    """Return the counts in the newest verdict (`earlier` is newest first) on windows of this length."""
    for verdict in earlier:
        memory = verdict.evidence.get(EVIDENCE, {}).get("memory")
        if memory is not None and memory["seconds"] == seconds:
            return convert(memory, DelayMemory)
    return None


def _to_shares(rows: Floats, known: Floats) -> Floats:
    """Return the share of labels that are known by each age; it never falls, and goes on where no row is so old."""
    shares: Floats = np.maximum.accumulate(np.where(rows > 0, known / np.maximum(rows, 1.0), 0.0))
    return shares


def _find_age(shares: Floats, grid: Floats, share: float) -> float | None:
    """Return the age by which a share of the labels is known; None if it is beyond the window."""
    if shares[-1] < share:
        return None
    index = int(np.argmax(shares >= share))
    if index == 0:
        return 0.0
    return float(np.interp(share, shares[index - 1 : index + 1], grid[index - 1 : index + 1]))


def _to_seconds(durations: pl.Series) -> Floats:
    values: Floats = durations.dt.total_microseconds().fill_null(0).to_numpy() / 1e6
    return values
