"""Simulate the losses of a model: how often ADWIN, Page-Hinkley and the check of a metric report a change, and when.

The losses are those of calibrated predictions, on independent rows and on rows whose difficulty changes slowly, without
a change of the model's quality. Then the mean loss increases for good.

    python -m benchmarks.detectors [--quick] [--json]
"""

import argparse
import json
from typing import NamedTuple

import numpy as np

from tidemill.checks.changes import find_increases
from tidemill.checks.quality import performance
from tidemill.core.watch import DETECTORS, DetectorName
from tidemill.data.arrays import Floats
from tidemill.data.dependence import estimate_inflation
from tidemill.data.metrics import normal_quantile

ROWS, CHANGE = 5_000, 2_500
WINDOW, LOOK = 1_000, 250  # rows of the check of a metric, and rows between two looks
RISES = (0.0, 0.1, 0.2)
LIMIT = 0.05
_HALF_LIFE = 200  # rows after which half of the difficulty has gone


class Result(NamedTuple):
    """Of so many streams: how many were reported after the change (or at all, without one), and the median delay."""

    contender: str
    rows: str
    rise: float
    streams: int
    reported: float
    early: float
    delay: float | None


def simulate(seed: int, rise: float, *, dependent: bool) -> Floats:
    """Return the log losses of calibrated probabilities; the mean rises at the middle of the stream."""
    random = np.random.default_rng(seed)
    sharpness = np.full(ROWS, 1.5)
    if dependent:
        weight = 0.5 ** (1 / _HALF_LIFE)
        level, noise = 0.0, random.normal(size=ROWS) * np.sqrt(1 - weight**2)
        for row in range(ROWS):
            level = weight * level + noise[row]
            sharpness[row] = 1.5 * np.exp(0.35 * level)
    probability = 1 / (1 + np.exp(-sharpness * random.normal(size=ROWS)))
    happens = random.random(ROWS) < probability
    losses = -np.log(np.where(happens, probability, 1 - probability))
    losses[CHANGE:] += rise
    return losses


def find_reports(losses: Floats, contender: str, limit: float) -> list[int]:
    """Return the rows at which a contender reports an increase; only the check of a metric has a limit."""
    if contender != "metric":
        detector: DetectorName = "adwin" if contender == "adwin" else "page_hinkley"
        return [found.row for found in find_increases(losses, detector)]
    reference, reports = float(losses[:WINDOW].mean()), []
    first = losses[:WINDOW].std() / np.sqrt(WINDOW) * estimate_inflation(losses[:WINDOW])
    for row in range(2 * WINDOW, ROWS + 1, LOOK):
        part = losses[row - WINDOW : row]
        error = np.hypot(first, part.std() / np.sqrt(WINDOW) * estimate_inflation(part))
        verdict = performance(
            "log_loss",
            float(part.mean()),
            reference,
            WINDOW,
            subject="m/1",
            limit=limit,
            action="retrain",
            minimum=200,
            reach=float(normal_quantile(0.975) * error),
        )
        if verdict.outcome == "fail":
            reports.append(row - 1)
    return reports


def measure(contender: str, limit: float, rise: float, streams: int, *, dependent: bool) -> Result:
    """Return how often a contender reports on so many streams."""
    reported, early, delays = 0, 0, []
    for seed in range(streams):
        rows = find_reports(simulate(seed, rise, dependent=dependent), contender, limit)
        late = [row for row in rows if row >= CHANGE]
        early += any(row < CHANGE for row in rows)
        reported += bool(late if rise else rows)
        if rise and late:
            delays.append(late[0] - CHANGE)
    name = f"metric, limit {limit:g}" if contender == "metric" else contender
    kind = "dependent" if dependent else "independent"
    delay = float(np.median(delays)) if delays else None
    return Result(name, kind, rise, streams, reported / streams, early / streams, delay)


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 streams instead of 200")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    streams = 20 if options.quick else 200
    results = [
        measure(contender, limit, rise, streams, dependent=dependent)
        for dependent in (False, True)
        for rise in RISES
        for contender, limit in (("metric", 0.0), ("metric", LIMIT), *((detector, 0.0) for detector in DETECTORS))
    ]
    if options.json:
        print(json.dumps([result._asdict() for result in results]))
        return
    print(f"{ROWS} rows, the change at row {CHANGE}, {streams} streams\n")
    print("| rows | rise of the loss | contender | reported | reported before the change | median delay, rows |")
    print("|---|---|---|---|---|---|")
    for result in results:
        delay = "" if result.delay is None else f"{result.delay:.0f}"
        before = "" if not result.rise else f"{result.early:.1%}"
        print(f"| {result.rows} | {result.rise:g} | {result.contender} | {result.reported:.1%} | {before} | {delay} |")


if __name__ == "__main__":
    main()
