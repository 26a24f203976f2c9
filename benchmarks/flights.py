"""Replays the flights with a month whose columns are permuted: each has its values, but not with those of the others.

No column changes its distribution, so only the relations between columns show it.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from benchmarks._report import describe_machine
from tidemill.backtest.period import choose_period
from tidemill.backtest.replay import Replay
from tidemill.core.check import Verdict
from tidemill.project.project import Project

_EXAMPLE = Path(__file__).parents[1] / "examples" / "flights"
_TIME = "scheduled_departure"
_BEGIN, _END = "2013-09-01", "2013-11-20"
_PERMUTED = datetime.fromisoformat("2013-10-05T00:00+00:00"), datetime.fromisoformat("2013-11-04T00:00+00:00")


class _Look(NamedTuple):
    """A verdict on drift: when, why, whether a column moved, and whether that was not reported before."""

    time: datetime
    reason: str
    moved: bool
    new: bool


def copy_example(folder: Path) -> Project:
    """Return a copy of the flights example, without its state."""
    target = folder / "flights"
    shutil.copytree(_EXAMPLE, target, ignore=shutil.ignore_patterns(".tidemill", "__pycache__"))
    return Project(target)


def permute_month(project: Project, seed: int) -> None:
    """Permute each column of the requests by itself, among the flights of the month."""
    file = project.folder / "data" / "flights.parquet"
    flights = pl.read_parquet(file)
    is_inside = pl.col(_TIME).is_between(*_PERMUTED, closed="left")
    names = project.model("").inputs.request
    month = flights.filter(is_inside).with_columns(
        pl.col(name).shuffle(seed=seed + index) for index, name in enumerate(names)
    )
    pl.concat([flights.filter(~is_inside), month]).sort(_TIME, maintain_order=True).write_parquet(file)


def replay(project: Project, folder: Path) -> Sequence[Verdict]:
    """Return the verdicts on drift of a replay."""
    period = choose_period(project, "", _BEGIN, _END)

    def report_progress(at: datetime, message: str) -> None:
        print(f"{at:%Y-%m-%d}  {message}", file=sys.stderr, flush=True)

    finished = Replay(project, project.policy, "", period, folder, report_progress)
    finished.run()
    return finished.books.verdicts.find(check="drift")


def summarize(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return how many looks before, in and after the month report a change, and in how many a column moved.

    A look of the first week after the month still has rows of the month.
    """
    begin, end = _PERMUTED
    looks = [
        _Look(verdict.time, verdict.reason, moved, moved and not verdict.reason.startswith("nothing new"))
        for verdict in verdicts
        if verdict.time
        for moved in [verdict.outcome in ("warn", "fail")]
    ]
    parts = {
        "before": [look for look in looks if look.time <= begin],
        "permuted": [look for look in looks if begin < look.time <= end],
        "after": [look for look in looks if look.time > end + timedelta(days=7)],
    }
    found = [look for look in parts["permuted"] if look.new]
    alarms = [look for look in parts["before"] + parts["after"] if look.new]
    return {
        **{
            name: [sum(look.new for look in part), sum(look.moved for look in part), len(part)]
            for name, part in parts.items()
        },
        "hours": (found[0].time - begin) / timedelta(hours=1) if found else None,
        "reason": found[0].reason if found else "",
        "alarms": {f"{look.time:%Y-%m-%d}": look.reason for look in alarms},
    }


def main() -> None:
    """Replay the flights with and without the permutation, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flights", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="accepted: the replay is short")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--seed", type=int, default=1, help="of the permutation")
    options = parser.parse_args()
    figures = {}
    for name in ("as they were", "a month permuted"):
        with tempfile.TemporaryDirectory(prefix="tidemill-flights-") as temporary:
            project = copy_example(Path(temporary))
            if name == "a month permuted":
                permute_month(project, options.seed)
            figures[name] = summarize(replay(project, Path(temporary) / "replay"))
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, found in figures.items():
        print(
            f"{name}: looks that report a change (with a column that moved): "
            + ", ".join("{} {} ({}) of {}".format(part, *found[part]) for part in ("before", "permuted", "after"))
        )
        if found["reason"]:
            print(f"  first after {found['hours']:.0f} hours of the month: {found['reason']}")
        for day, reason in found["alarms"].items():
            print(f"  {day}: {reason}")
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
