"""Compare the loop with a calendar of the same number of trainings over a year of flights, under several seeds.

Three histories: the year as it was; the same with the disturbances of the demo, which affect the calendar too; and a
shuffled year, in which nothing changes and every alarm is false.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks._report import describe_machine, write_between
from tidemill.backtest.compare import compare
from tidemill.backtest.comparison import BacktestResult, Period
from tidemill.backtest.period import choose_period
from tidemill.backtest.policies import PolicyPlan, build_calendar_policy, shuffle_history
from tidemill.backtest.stories import describe_difference, format_causes, list_false_alarms
from tidemill.core.policy import Policy
from tidemill.project.configuration import FILE, read_policy
from tidemill.project.project import Project

_FLIGHTS = Path(__file__).parents[1] / "examples" / "flights"
_PAGE = Path(__file__).parents[1] / "docs" / "howto" / "backtest-a-policy.md"
HISTORIES = {
    "as it was": "the year as it was",
    "incidents": "the year with two broken deliveries and two wrong trainings",
    "unchanging": "the year shuffled: nothing changes",
}


def build_policies(history: str, period: Period) -> dict[str, PolicyPlan]:
    """Return the policies that are compared on a history."""
    policy: Policy = read_policy(_FLIGHTS / "calm.toml", _FLIGHTS / FILE)
    if history == "incidents":
        policy = replace(policy, backtest=read_policy(_FLIGHTS / "demo.toml", _FLIGHTS / FILE).backtest)
    if history == "unchanging":
        return {"loop": shuffle_history(policy)}
    return {"loop": policy, "calendar": lambda loop: build_calendar_policy(policy, period, loop.trainings)}


def replay_histories(histories: list[str], seeds: int, end: str) -> dict[str, BacktestResult]:
    """Replay each history under every seed."""
    project = Project(_FLIGHTS)
    period = choose_period(project, "", "2013-03-01", end)

    def report_progress(name: str, at: datetime, message: str) -> None:
        print(f"{at:%Y-%m-%d}  {name:12} {message}", file=sys.stderr, flush=True)

    return {
        history: compare(project, build_policies(history, period), "", period, report_progress, seeds=range(seeds))
        for history in histories
    }


def to_figures(results: Mapping[str, BacktestResult]) -> dict[str, Any]:
    """Return the results as plain data."""
    figures: dict[str, Any] = {}
    for name, result in results.items():
        loops = result.list_seeds("loop")
        figures[name] = {
            "seeds": len(loops),
            "trainings": [loop.trainings for loop in loops],
            "causes": [loop.causes for loop in loops],
            "rolled back": [loop.rollbacks for loop in loops],
            "refused": [sum(story.ending == "refused" for story in loop.stories) for loop in loops],
            "loss": [round(loop.metrics["log_loss"], 5) for loop in loops],
            "seconds": round(result.seconds, 1),
        }
        if result.seed_comparisons:
            difference = result.difference("calendar")
            figures[name] |= {
                "calendar": [round(comparison.other_loss, 5) for comparison in result.seed_comparisons],
                "differences": [round(comparison.difference.mean, 5) for comparison in result.seed_comparisons],
                "difference": [round(value, 5) for value in (difference.mean, difference.low, difference.high)],
                "the loop is": describe_difference(difference),
            }
        if result.shuffled:
            figures[name]["alarms"] = list_false_alarms(result)
    return figures


def to_table(results: Mapping[str, BacktestResult]) -> str:
    """Return the results as a Markdown table."""
    rows = ["| history | seed | trainings | loop | calendar | difference | 95 % interval |", "|" + "---|" * 7]
    notes = []
    for name, result in results.items():
        for comparison in result.seed_comparisons:
            difference = comparison.difference
            rows.append(
                f"| {name} | {comparison.seed} | {comparison.trainings} : {comparison.other_trainings} | "
                f"{comparison.loss:.4f} | {comparison.other_loss:.4f} | {difference.mean:+.4f} | "
                f"{difference.low:+.4f} to {difference.high:+.4f} |"
            )
        loops = result.list_seeds("loop")
        if result.seed_comparisons:
            difference = result.difference("calendar")
            interval = f"{difference.low:+.4f} to {difference.high:+.4f}: {describe_difference(difference)}"
            rows.append(f"| **{name}** | **all** | | | | {difference.mean:+.4f} | {interval} |")
        causes = format_causes(loops)
        notes.append(f"- *{name}*: {HISTORIES[name]}. Trainings by cause, {len(loops)} × the loop: {causes}.")
        notes += [f"  {alarm}." for alarm in (list_false_alarms(result) if result.shuffled else [])]
    return "\n".join([*rows, "", *notes])


def main() -> None:
    """Run the backtests, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backtest", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten weeks and one seed; takes less than two minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--markdown", action="store_true", help=f"write the table to {_PAGE.name}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--history", action="append", choices=list(HISTORIES), help="run only these histories")
    options = parser.parse_args()
    seeds, end = (1, "2013-05-12") if options.quick else (options.seeds, "2014-01-01")
    results = replay_histories(options.history or list(HISTORIES), seeds, end)
    if options.json:
        print(json.dumps(to_figures(results), indent=2))
        return
    minutes = sum(result.seconds for result in results.values()) / 60
    text = f"{to_table(results)}\n\n{describe_machine()}; {minutes:.0f} minutes."
    print(text)
    if options.markdown:
        write_between(_PAGE, "backtest", text)


if __name__ == "__main__":
    main()
