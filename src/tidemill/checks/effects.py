"""Effect sizes of a column that moved: distances of its distribution from that of the reference."""

import math
from typing import Any

import numpy as np

from tidemill.data.arrays import Floats
from tidemill.data.statistics import ColumnProfile, Profile

_LEAST_SHARE = 1e-4
_SHOWN = 10


def describe_effects(window: Profile, reference: ColumnProfile) -> dict[str, Any]:
    """Return the effect sizes of a column in a window: missing shares, PSI, Jensen–Shannon distance, those of its type.

    A number has the Wasserstein distance in standard deviations of the reference with the bound of its error; a text
    has the largest change of a category's share and the share of values that are not among the reference's categories.
    `cells`, `shares` and `reference_shares` are the data of a picture.
    """
    now = window.column(reference.name)
    if now is None:
        return {}
    effects: dict[str, Any] = {
        "missing": now.missing / max(now.rows, 1),
        "reference_missing": reference.missing / max(reference.rows, 1),
    }
    if not now.present or not reference.present or reference.type in ("time", "date"):
        return effects
    counts, expected = _read_shares(now), _read_shares(reference)
    effects |= {"psi": compute_psi(counts, expected), "jensen_shannon": compute_jensen_shannon(counts, expected)}
    if reference.type == "text":
        effects |= {"largest_change": float(np.abs(counts - expected).max()), "unseen": now.other / now.present}
    elif reference.edges:
        distance, bound = compute_wasserstein(now, reference)
        unit = reference.deviation or 1.0
        scaled = {"wasserstein": distance / unit, "wasserstein_bound": bound / unit}
        effects |= {name: value for name, value in scaled.items() if math.isfinite(value)}
        effects |= {"mean": now.mean, "reference_mean": reference.mean, "low": now.low, "high": now.high}
    cells, pictured = _name_cells(reference), [_merge_cells(shares, reference) for shares in (counts, expected)]
    return effects | {"cells": cells, "shares": pictured[0].tolist(), "reference_shares": pictured[1].tolist()}


def compute_psi(shares: Floats, reference: Floats) -> float:
    """Return the population stability index of shares; an empty cell counts as a share of .0001."""
    now, then = np.maximum(shares, _LEAST_SHARE), np.maximum(reference, _LEAST_SHARE)
    return float(((now - then) * np.log(now / then)).sum())


def compute_jensen_shannon(shares: Floats, reference: Floats) -> float:
    """Return the Jensen–Shannon distance of shares with logarithms to base 2: 0 is equal, 1 is disjoint (Lin 1991)."""
    middle = (shares + reference) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(part > 0, part * np.log2(part / middle), 0.0).sum() for part in (shares, reference)]
    return float(np.sqrt(max(sum(parts) / 2, 0.0)))


def compute_wasserstein(now: ColumnProfile, reference: ColumnProfile) -> tuple[float, float]:
    """Return the Wasserstein distance of two columns at the reference's edges, and the bound of its error.

    The distance is the area between the two distribution functions. These are exact at the edges. Between two edges
    each is anywhere between its values there: so the area has a smallest and a largest value, and the distance is their
    middle.
    """
    low = min(column.low for column in (now, reference) if column.low is not None)
    high = max(column.high for column in (now, reference) if column.high is not None)
    edges = np.asarray(reference.edges)
    widths = np.diff(np.concatenate(([min(low, edges[0])], edges, [max(high, edges[-1])])))
    (now_least, now_most), (least, most) = (_bound_shares(column, reference) for column in (now, reference))
    largest = np.maximum(now_most - least, most - now_least)
    smallest = np.maximum(np.maximum(now_least - most, least - now_most), 0.0)
    upper, lower = float((largest * widths).sum()), float((smallest * widths).sum())
    return (upper + lower) / 2, (upper - lower) / 2


def _bound_shares(column: ColumnProfile, reference: ColumnProfile) -> tuple[Floats, Floats]:
    """Return the least and the greatest share of rows at or below a point between two edges, shape (edges + 1,)."""
    ties = np.asarray(column.ties or [0] * len(reference.edges))
    up_to = np.cumsum(column.counts)[:-1]
    least = np.concatenate(([0], up_to)) / column.present
    most = np.concatenate((up_to - ties, [column.present])) / column.present
    return least, most


def _read_shares(column: ColumnProfile) -> Floats:
    counts = [*column.values.values(), column.other] if column.type == "text" else column.counts
    return np.asarray(counts, float) / max(column.present, 1)


def _groups(reference: ColumnProfile) -> list[int]:
    """Return the first cell of each of at most ten groups of a column's cells."""
    if reference.type == "text":
        return list(range(min(len(reference.values), _SHOWN - 1) + 1))
    return sorted({index * len(reference.counts) // _SHOWN for index in range(_SHOWN)})


def _merge_cells(shares: Floats, reference: ColumnProfile) -> Floats:
    merged: Floats = np.add.reduceat(shares, _groups(reference))
    return merged


def _name_cells(reference: ColumnProfile) -> list[str]:
    starts = _groups(reference)
    if reference.type == "text":
        return [*list(reference.values)[: len(starts) - 1], "other"]
    edges = reference.edges
    return [f"≤ {edges[end - 1]:.3g}" for end in starts[1:]] + [f"> {edges[-1]:.3g}"]
