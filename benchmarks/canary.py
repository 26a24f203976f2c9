"""Simulate canaries: how often a challenger is promoted or rolled back, and after how many labels.

Each canary runs on independent rows, and on the losses of two models in the real order of real streams, with the code
that decides a canary in production. Beside it: a test of a fixed size and the group-sequential test of O'Brien &
Fleming (1979) with five looks.
"""

import argparse
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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
_DEVIATION, _LEVEL = 0.3, 0.6  # of independent rows: the deviation of a difference, and the champion's loss
_SHARE = 0.8  # of the rows, those that the champion serves and the challenger shadows
_DAYS, _EXTENSION = 14, 28
_MINIMUM = 50  # labels
_FEW = 30  # where the lower loss decides at the end
_SHOWN_DAYS = 3  # as in production: before, rows cannot show how much days differ
_ALPHA, _POWER_Z, _Z = 0.05, 1.2816, 1.6449
_LOOKS = 5


class Scenario(NamedTuple):
    """A kind of challenger: its difference in margins plus a constant, the late labels, and how slow it is.

    On a real stream, the difference is that of the whole stream; with `in_canary`, that of the rows of the longest
    canary. `added` is in deviations of a difference.
    """

    name: str
    margins: float = 0.0
    added: float = 0.0
    late: float = 0.0
    slow: bool = False
    stepped: bool = False
    in_canary: bool = False
    only: str = ""


SCENARIOS = (
    Scenario("bad: worse by the margin", 1.0),
    Scenario("bad in its own six weeks", 1.0, in_canary=True, only="streams"),
    Scenario("bad, 30 % of labels 5 days late", 1.0, late=0.3),
    Scenario("bad, share raised from 5 to 50 %", 1.0, stepped=True),
    Scenario("equal", 0.0),
    Scenario("equal, 30 % of labels 5 days late", 0.0, late=0.3),
    Scenario("equal, share raised from 5 to 50 %", 0.0, stepped=True),
    Scenario("good: better by the margin", -1.0),
    Scenario("good, 30 % of labels 5 days late", -1.0, late=0.3, only="independent"),
    Scenario("worse by three margins", 3.0, only="independent"),
    Scenario("worse by a deviation", 1.0, added=1.0),
    Scenario("equal, but slow", 0.0, slow=True, only="independent"),
)


class Ending(NamedTuple):
    """How a canary ended: `promote`, `rollback` or `undecided`, after how many labels and days."""

    action: str
    labels: int
    days: float


class Canary(NamedTuple):
    """The rows of one canary: the losses, the day of each row and the day on which its label is known."""

    champion: Floats
    challenger: Floats
    day: Floats
    known: Floats
    margin: float


class Case(NamedTuple):
    """The rows that canaries draw from: independent ones, or a stream in its order; and the margin of the canaries."""

    name: str
    rows_per_day: float
    margin: float
    series: LossSeries | None = None


def judge_by_tidemill(
    canary: Canary, slow: bool, days: int = _DAYS, extension: int = _EXTENSION, *, better: bool = False
) -> Ending:
    """Look every day, as `watching` does with complete blocks, until there is a decision or the time is up.

    With `better`, as in the policy that `init` writes, the lower live loss and a bound for one look decide after
    `days`, or at the end.
    """
    rollout = Rollout(
        margin=canary.margin,
        minimum=_FEW if better else _MINIMUM,
        undecided="better" if better else "champion",
    )
    times = (np.full(100, 400.0), np.full(100, 10.0)) if slow else (np.empty(0), np.empty(0))
    behaviour = LiveBehaviour(milliseconds=times)
    blocks: Ints = canary.day.astype(np.int64)
    for look in range(1, days + extension + 1):
        known = canary.known <= look
        challenger, champion = canary.challenger[known], canary.champion[known]
        comparison = compare_pairs(challenger, champion, blocks[known], look, shows_days=look >= _SHOWN_DAYS)
        clock = CanaryClock(extended=look > days - better, ended=look == days + extension, blocks=days)
        verdict = check_traffic(comparison, rollout, subject="b", reference="a", clock=clock, behaviour=behaviour)
        if verdict.action != "hold":
            action = "undecided" if verdict.outcome == "undecided" and not better else verdict.action
            return Ending(action, len(challenger), look)
    raise AssertionError("the last look ends a canary")


def find_fixed_size(canary: Canary) -> int:
    """Return the labels of a test with a power of 90 % for a difference of one margin from the bound."""
    variance = float(np.var(canary.challenger - canary.champion))
    return max(math.ceil(variance * (_Z + _POWER_Z) ** 2 / canary.margin**2), 30)


def judge_by_fixed_size(canary: Canary, looks: int = 1, critical: float = _Z) -> Ending:
    """Look at fixed numbers of labels, with the error of independent rows; O'Brien-Fleming bounds for several."""
    order = np.argsort(canary.known, kind="stable")
    values, size = (canary.challenger - canary.champion)[order], find_fixed_size(canary)
    for look in range(1, looks + 1):
        count = size * look // looks
        if count > len(values):
            break
        part = values[:count]
        statistic = (part.mean() - canary.margin) / (part.std(ddof=1) / math.sqrt(count) + 1e-12)
        if abs(statistic) >= critical * math.sqrt(looks / look):
            action = "promote" if statistic < 0 else "rollback"
            return Ending(action, count, float(canary.known[order][count - 1]))
    return Ending("undecided", min(size, len(values)), _DAYS + _EXTENSION)


def find_critical_value(looks: int, seed: int = 11) -> float:
    """Return the constant of O'Brien & Fleming for a one-sided error of 5 %, by simulation."""
    steps = np.random.default_rng(seed).normal(size=(200_000, looks)).cumsum(axis=1)
    return float(np.quantile((steps / math.sqrt(looks)).max(axis=1), 1 - _ALPHA))


def make_canary(case: Case, scenario: Scenario, random: np.random.Generator) -> Canary:
    """Return the rows of a canary: independent ones, or consecutive ones of a stream from a random row on."""
    count = int(case.rows_per_day * (_DAYS + _EXTENSION))
    if case.series is None:
        champion, deviation = np.full(count, _LEVEL), _DEVIATION
        differences = random.normal(0, deviation, count)
    else:
        all_differences = case.series.challenger - case.series.champion
        deviation = float(all_differences.std())
        rows = slice(start := int(random.integers(0, max(len(all_differences) - count, 1))), start + count)
        champion, differences = case.series.champion[rows], all_differences[rows]
        differences = differences - (differences if scenario.in_canary else all_differences).mean()
    differences = differences + scenario.margins * case.margin + scenario.added * deviation
    day = np.arange(len(differences)) / case.rows_per_day
    share = np.where(day < 2, 0.95, np.where(day < 4, 0.8, 0.5)) if scenario.stepped else _SHARE
    kept = random.random(len(day)) < share
    late = np.where(random.random(len(day)) < scenario.late, 5.0, 0.0)
    return Canary(champion[kept], (champion + differences)[kept], day[kept], (day + late)[kept], case.margin)


def choose_margin(deviation: float, rows_per_day: float) -> float:
    """Return a margin that independent rows of 14 days can show, as `tidemill init` does."""
    return float(deviation / _DEVIATION * min(max(2.5 / math.sqrt(_DAYS * _SHARE * rows_per_day), 0.02), 0.15))


def choose_days(rows_per_day: float) -> int:
    """Return the days of a canary of 60 labels, at least three, as `tidemill init` does."""
    return max(math.ceil(60 / (_SHARE * rows_per_day)), 3)


def simulate(task: tuple[Case, int, Scenario], count: int) -> list[dict[str, Any]]:
    """Return a row of the table for each test, of one kind of challenger."""
    case, number, scenario = task
    critical, days = find_critical_value(_LOOKS), choose_days(case.rows_per_day)
    tests: dict[str, Callable[[Canary], Ending]] = {
        "tidemill": lambda canary: judge_by_tidemill(canary, scenario.slow),
        "tidemill, as init": lambda canary: judge_by_tidemill(
            canary, scenario.slow, days, max(_DAYS - days, days), better=True
        ),
        "fixed size": judge_by_fixed_size,
        "O'Brien-Fleming": lambda canary: judge_by_fixed_size(canary, _LOOKS, critical),
    }
    endings: dict[str, list[Ending]] = {test: [] for test in tests}
    for seed in range(count):
        canary = make_canary(case, scenario, np.random.default_rng((number, seed)))
        for test, judge in tests.items():
            endings[test].append(judge(canary))
    return [_summarize(case, scenario.name, test, found) for test, found in endings.items()]


def make_cases(data: Path, names: tuple[str, ...], *, quick: bool) -> list[Case]:
    """Return the cases: independent rows with two margins, and real streams that are long and dense enough."""
    cases = []
    for per_day in () if names else (20, 120, 1000):
        margin = choose_margin(_DEVIATION, per_day)
        cases.append(Case(f"independent, {per_day} a day", per_day, margin))
        cases.append(Case(f"independent, {per_day} a day, half the margin", per_day, margin / 2))
    for series in [] if quick else load_series(data, names):
        rows = series.rows_per_day * (_DAYS + _EXTENSION)
        if len(series.champion) >= 2 * rows and _SHARE * rows >= 2 * _MINIMUM:
            deviation = float((series.challenger - series.champion).std())
            margin = choose_margin(deviation, series.rows_per_day)
            cases.append(Case(series.name, series.rows_per_day, margin, series))
    return cases


def find_interval(found: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Clopper & Pearson 1934)."""
    low = float(beta.ppf(0.025, found, count - found + 1)) if found else 0.0
    return low, float(beta.ppf(0.975, found + 1, count - found)) if found < count else 1.0


def _summarize(case: Case, scenario: str, test: str, endings: list[Ending]) -> dict[str, Any]:
    row: dict[str, Any] = {"rows": case.name, "challenger": scenario, "test": test, "margin": case.margin}
    for action in ("promote", "rollback", "undecided"):
        found = sum(ending.action == action for ending in endings)
        row[action], row[f"{action}_95"] = found / len(endings), find_interval(found, len(endings))
    decided = [ending for ending in endings if ending.action != "undecided"]
    row["labels"] = float(np.median([ending.labels for ending in decided])) if decided else None
    row["days"] = float(np.median([ending.days for ending in decided])) if decided else None
    return row


def format_rows(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = [
        "| rows | challenger | test | promoted (95 %) | rolled back (95 %) | undecided | labels | days |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["rows"], row["challenger"], row["test"]]
        for action in ("promote", "rollback"):
            low, high = row[f"{action}_95"]
            cells.append(f"{row[action]:.3f} ({low:.3f} to {high:.3f})")
        cells.append(f"{row['undecided']:.3f}")
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
    parser.add_argument("--workers", type=int, default=2, help="the number of processes")
    options = parser.parse_args()
    count = options.count or (20 if options.quick else 500)
    tasks = [
        (case, number, scenario)
        for case in make_cases(options.data, tuple(options.stream), quick=options.quick)
        for number, scenario in enumerate(SCENARIOS)
        if scenario.only in ("", "streams" if case.series else "independent")
    ]
    with ProcessPoolExecutor(options.workers) as pool:
        rows = [row for found in pool.map(partial(simulate, count=count), tasks) for row in found]
    if options.json:
        print(json.dumps({"canaries": count, "results": rows}, indent=2))
    else:
        print(f"{describe_machine()}; {count} canaries of each kind\n\n{format_rows(rows)}")


if __name__ == "__main__":
    main()
