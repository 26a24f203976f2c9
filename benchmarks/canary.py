"""Simulate canaries: how often a challenger is promoted or rolled back, and after how many labels.

Each canary runs on independent rows, and on the losses of two models in the real order of real streams. Beside the
check of Tidemill: a test of a fixed size and the group-sequential test of O'Brien & Fleming (1979) with five looks.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta

from benchmarks._loss_series import LossSeries, load_series
from benchmarks._report import describe_machine
from tidemill.checks.guards import LiveBehaviour
from tidemill.checks.traffic import CanaryClock, check_traffic, compare_pairs
from tidemill.core.rollout import Rollout
from tidemill.data.arrays import Floats, Ints

_CACHE = Path("~/.cache/tidemill-benchmarks").expanduser()
_DEVIATION = 0.3
_SHARE = 0.8  # of the rows, those that the champion serves and the challenger shadows
_DAYS, _EXTENSION = 14, 28
_ALPHA, _POWER_Z, _Z = 0.05, 1.2816, 1.6449
_LOOKS = 5


class Scenario(NamedTuple):
    """A kind of challenger: its difference in margins plus a constant, the late labels, and how slow it is."""

    name: str
    margins: float = 0.0
    added: float = 0.0
    late: float = 0.0
    slow: bool = False
    stepped: bool = False


SCENARIOS = (
    Scenario("bad: worse by the margin", 1.0),
    Scenario("bad, 30 % of labels 5 days late", 1.0, late=0.3),
    Scenario("bad, share raised from 5 to 50 %", 1.0, stepped=True),
    Scenario("equal", 0.0),
    Scenario("equal, 30 % of labels 5 days late", 0.0, late=0.3),
    Scenario("good: better by the margin", -1.0),
    Scenario("worse by .30 beyond the margin", 1.0, added=0.3),
    Scenario("equal, but slow", 0.0, slow=True),
)


class Ending(NamedTuple):
    """How a canary ended: `promote`, `rollback` or `undecided`, after how many labels and days."""

    action: str
    labels: int
    days: float


class Canary(NamedTuple):
    """The rows of one canary: the differences, the day of each row and the day on which its label is known."""

    differences: Floats
    day: Floats
    known: Floats
    margin: float


def judge_by_tidemill(canary: Canary, slow: bool) -> Ending:
    """Look every day, as `watching` does with complete blocks, until there is a decision or the time is up."""
    rollout = Rollout(margin=canary.margin, minimum=50)
    times = (np.full(100, 400.0), np.full(100, 10.0)) if slow else (np.empty(0), np.empty(0))
    behaviour = LiveBehaviour(milliseconds=times)
    for look in range(1, _DAYS + _EXTENSION + 1):
        known = canary.known <= look
        values = canary.differences[known]
        blocks: Ints = canary.day[known].astype(np.int64)
        # The champion's loss is 0.6: a rollback on few rows requires a difference that is large beside it.
        comparison = compare_pairs(values + 0.6, np.full(len(values), 0.6), blocks, look)
        clock = CanaryClock(extended=look > _DAYS, ended=look == _DAYS + _EXTENSION)
        verdict = check_traffic(comparison, rollout, subject="b", reference="a", clock=clock, behaviour=behaviour)
        if verdict.action != "hold":
            action = "undecided" if verdict.outcome == "undecided" else verdict.action
            return Ending(action, len(values), look)
    raise AssertionError("the last look ends a canary")


def find_fixed_size(canary: Canary) -> int:
    """Return the labels of a test with a power of 90 % for a difference of one margin from the bound."""
    variance = float(np.var(canary.differences))
    return max(math.ceil(variance * (_Z + _POWER_Z) ** 2 / canary.margin**2), 30)


def judge_by_fixed_size(canary: Canary, looks: int = 1, critical: float = _Z) -> Ending:
    """Look at fixed numbers of labels, with the error of independent rows; O'Brien-Fleming bounds for several."""
    order = np.argsort(canary.known, kind="stable")
    values, size = canary.differences[order], find_fixed_size(canary)
    for look in range(1, looks + 1):
        count = size * look // looks
        if count > len(values):
            break
        part = values[:count]
        statistic = (part.mean() - canary.margin) / (part.std(ddof=1) / math.sqrt(count) + 1e-12)
        if abs(statistic) >= critical * math.sqrt(looks / look):
            action = "promote" if statistic < 0 else "rollback"
            return Ending(action, count, float(np.sort(canary.known)[count - 1]))
    return Ending("undecided", min(size, len(values)), _DAYS + _EXTENSION)


def find_critical_value(looks: int, seed: int = 11) -> float:
    """Return the constant of O'Brien & Fleming for a one-sided error of 5 %, by simulation."""
    steps = np.random.default_rng(seed).normal(size=(200_000, looks)).cumsum(axis=1)
    return float(np.quantile((steps / math.sqrt(looks)).max(axis=1), 1 - _ALPHA))


def draw_independent() -> Callable[[np.random.Generator, int], Floats]:
    """Return a source of independent differences with a mean of 0."""
    return lambda random, rows: random.normal(0, _DEVIATION, rows)


def draw_in_order(series: LossSeries) -> Callable[[np.random.Generator, int], Floats]:
    """Return a source of consecutive differences of a series from a random row on; their mean over all rows is 0."""
    centred = series.differences - series.differences.mean()

    def draw(random: np.random.Generator, rows: int) -> Floats:
        start = int(random.integers(0, max(len(centred) - rows, 1)))
        return np.asarray(centred[start : start + rows])

    return draw


def make_canary(
    source: Callable[[np.random.Generator, int], Floats],
    rows_per_day: float,
    scenario: Scenario,
    margin: float,
    random: np.random.Generator,
) -> Canary:
    """Return the rows of a canary; the differences of a real stream keep their order."""
    values = source(random, int(rows_per_day * (_DAYS + _EXTENSION)))
    day = np.arange(len(values)) / rows_per_day
    share = np.where(day < 2, 0.95, np.where(day < 4, 0.8, 0.5)) if scenario.stepped else _SHARE
    kept = random.random(len(values)) < share
    values, day = values[kept], day[kept]
    late = np.where(random.random(len(values)) < scenario.late, 5.0, 0.0)
    return Canary(values + scenario.margins * margin + scenario.added, day, day + late, margin)


def choose_margin(deviation: float, rows_per_day: float) -> float:
    """Return a margin that independent rows of 14 days can show, as `tidemill init` does."""
    return float(deviation / _DEVIATION * min(max(2.5 / math.sqrt(_DAYS * _SHARE * rows_per_day), 0.02), 0.15))


def simulate(
    name: str, source: Callable[[np.random.Generator, int], Floats], rows_per_day: float, deviation: float, count: int
) -> list[dict[str, Any]]:
    """Return a row of the table for each scenario and test."""
    margin = choose_margin(deviation, rows_per_day)
    critical = find_critical_value(_LOOKS)
    rows = []
    for number, scenario in enumerate(SCENARIOS):
        tests: dict[str, Callable[[Canary], Ending]] = {
            "tidemill": lambda canary, slow=scenario.slow: judge_by_tidemill(canary, slow),  # type: ignore[misc]
            "fixed size": judge_by_fixed_size,
            "O'Brien-Fleming": lambda canary: judge_by_fixed_size(canary, _LOOKS, critical),
        }
        endings: dict[str, list[Ending]] = {test: [] for test in tests}
        for seed in range(count):
            random = np.random.default_rng((number, seed))
            canary = make_canary(source, rows_per_day, scenario, margin, random)
            for test, judge in tests.items():
                endings[test].append(judge(canary))
        rows += [_summarize(name, scenario.name, test, found, margin) for test, found in endings.items()]
    return rows


def _summarize(stream: str, scenario: str, test: str, endings: list[Ending], margin: float) -> dict[str, Any]:
    row: dict[str, Any] = {"rows": stream, "challenger": scenario, "test": test, "margin": margin}
    for action in ("promote", "rollback", "undecided"):
        row[action] = sum(ending.action == action for ending in endings) / len(endings)
    found = sum(ending.action == "promote" for ending in endings)
    row["promote_95"] = [
        float(beta.ppf(0.025, found, len(endings) - found + 1)) if found else 0.0,
        float(beta.ppf(0.975, found + 1, len(endings) - found)) if found < len(endings) else 1.0,
    ]
    decided = [ending for ending in endings if ending.action != "undecided"]
    row["labels"] = float(np.median([ending.labels for ending in decided])) if decided else None
    row["days"] = float(np.median([ending.days for ending in decided])) if decided else None
    return row


def format_rows(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = [
        "| rows | challenger | test | promoted (95 % interval) | rolled back | undecided | labels | days |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["promote_95"]
        cells = [row["rows"], row["challenger"], row["test"], f"{row['promote']:.3f} ({low:.3f} to {high:.3f})"]
        cells += [f"{row['rollback']:.3f}", f"{row['undecided']:.3f}"]
        cells += ["–" if row[name] is None else f"{row[name]:,.0f}" for name in ("labels", "days")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 canaries instead of 500, without real streams")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--data", type=Path, default=_CACHE, help="the folder of the downloaded packages")
    parser.add_argument("--stream", action="append", default=[], help="only this real stream; can be repeated")
    parser.add_argument("--count", type=int, default=0, help="the number of canaries of each kind")
    options = parser.parse_args()
    count = options.count or (20 if options.quick else 500)
    rows = []
    for per_day in (20, 120, 1000):
        rows += simulate(f"independent, {per_day} a day", draw_independent(), per_day, _DEVIATION, count)
    for series in [] if options.quick else load_series(options.data, tuple(options.stream)):
        deviation = float(series.differences.std())
        if len(series.differences) < 2 * series.rows_per_day * (_DAYS + _EXTENSION):
            continue
        rows += simulate(series.name, draw_in_order(series), series.rows_per_day, deviation, count)
    if options.json:
        print(json.dumps({"canaries": count, "results": rows}, indent=2))
    else:
        print(f"{describe_machine()}; {count} canaries of each kind\n\n{format_rows(rows)}")


if __name__ == "__main__":
    main()
