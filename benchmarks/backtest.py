"""Is the loop worth it? A year of flights under it and under a calendar with as many trainings, over several seeds.

Three histories: the year as it was; the same with the incidents that the demo plants, which the calendar lives through
too; and one in which nothing changes, where whatever fires is a false alarm.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks._report import machine, write_between
from tidemill.backtest.compare import compare
from tidemill.backtest.comparison import BacktestResult, Period
from tidemill.backtest.period import part_of
from tidemill.backtest.policies import PolicyPlan, calendar, shuffled
from tidemill.backtest.stories import alarms, causes, lead
from tidemill.core.policy import Policy
from tidemill.project.configuration import FILE, read_policy
from tidemill.project.project import Project

_FLIGHTS = Path(__file__).parents[1] / "examples" / "flights"
_PAGE = Path(__file__).parents[1] / "docs" / "howto" / "backtest-a-policy.md"
HISTORIES = {
    "as it was": "the year as it was",
    "incidents": "the year with two broken deliveries and two careless trainings",
    "unchanging": "the year shuffled: nothing changes",
}


def policies_of(history: str, part: Period) -> dict[str, PolicyPlan]:
    """The policies that are laid side by side on a history."""
    policy: Policy = read_policy(_FLIGHTS / "calm.toml", _FLIGHTS / FILE)
    if history == "incidents":
        policy = replace(policy, backtest=read_policy(_FLIGHTS / "demo.toml", _FLIGHTS / FILE).backtest)
    if history == "unchanging":
        return {"loop": shuffled(policy)}
    return {"loop": policy, "calendar": lambda loop: calendar(policy, part, loop.trainings)}


def replayed(histories: list[str], seeds: int, end: str) -> dict[str, BacktestResult]:
    """Each history, replayed under every seed."""
    project = Project(_FLIGHTS)
    part = part_of(project, "", "2013-03-01", end)

    def told(name: str, at: datetime, said: str) -> None:
        print(f"{at:%Y-%m-%d}  {name:12} {said}", file=sys.stderr, flush=True)

    return {one: compare(project, policies_of(one, part), "", part, told, seeds=range(seeds)) for one in histories}


def figures(found: Mapping[str, BacktestResult]) -> dict[str, Any]:
    """What came out, as plain data."""
    told: dict[str, Any] = {}
    for name, comparison in found.items():
        loops = comparison.seeds_of("loop")
        told[name] = {
            "seeds": len(loops),
            "trainings": [one.trainings for one in loops],
            "causes": [one.causes for one in loops],
            "rolled back": [one.rollbacks for one in loops],
            "refused": [sum(case.ending == "refused" for case in one.cases) for one in loops],
            "loss": [round(one.metrics["log_loss"], 5) for one in loops],
            "seconds": round(comparison.seconds, 1),
        }
        if comparison.trials:
            apart = comparison.difference("calendar")
            told[name] |= {
                "calendar": [round(trial.other, 5) for trial in comparison.trials],
                "differences": [round(trial.difference.mean, 5) for trial in comparison.trials],
                "difference": [round(value, 5) for value in (apart.mean, apart.low, apart.high)],
                "the loop is": lead(apart),
            }
        if comparison.shuffled:
            told[name]["alarms"] = alarms(comparison)
    return told


def table(found: Mapping[str, BacktestResult]) -> str:
    """A Markdown table of what came out."""
    rows = ["| history | seed | trainings | loop | calendar | difference | 95 % interval |", "|" + "---|" * 7]
    notes = []
    for name, comparison in found.items():
        for trial in comparison.trials:
            apart = trial.difference
            rows.append(
                f"| {name} | {trial.seed} | {trial.trainings} : {trial.other_trainings} | {trial.loss:.4f} | "
                f"{trial.other:.4f} | {apart.mean:+.4f} | {apart.low:+.4f} to {apart.high:+.4f} |"
            )
        loops = comparison.seeds_of("loop")
        if comparison.trials:
            apart = comparison.difference("calendar")
            said = f"{apart.mean:+.4f} | {apart.low:+.4f} to {apart.high:+.4f}: {lead(apart)}"
            rows.append(f"| **{name}** | **all** | | | | {said} |")
        notes.append(f"- *{name}*: {HISTORIES[name]}. Trainings by cause, {len(loops)} × the loop: {causes(loops)}.")
        notes += [f"  {alarm}." for alarm in (alarms(comparison) if comparison.shuffled else [])]
    return "\n".join([*rows, "", *notes])


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backtest", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten weeks and one seed: within two minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--markdown", action="store_true", help=f"put the table into {_PAGE.name}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--history", action="append", choices=list(HISTORIES), help="only these")
    options = parser.parse_args()
    seeds, end = (1, "2013-05-12") if options.quick else (options.seeds, "2014-01-01")
    found = replayed(options.history or list(HISTORIES), seeds, end)
    if options.json:
        print(json.dumps(figures(found), indent=2))
        return
    text = f"{table(found)}\n\n{machine()}; {sum(one.seconds for one in found.values()) / 60:.0f} minutes."
    print(text)
    if options.markdown:
        write_between(_PAGE, "backtest", text)


if __name__ == "__main__":
    main()
