"""Replays the flights with a season that comes back: the rows of July follow those of September, with their weather.

The models learn the last four weeks only, so that the champion of that time has not learned July, and the one of the
summer has. The same history is replayed with and without the pipeline `recalling`.
"""

import argparse
import json
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._report import describe_machine
from benchmarks.flights import copy_example
from tidemill.backtest.period import choose_period
from tidemill.backtest.replay import Replay
from tidemill.core.route import Route
from tidemill.data.dependence import estimate_inflation
from tidemill.project.project import Project

_SEASON = datetime.fromisoformat("2013-07-06T00:00+00:00"), datetime.fromisoformat("2013-08-03T00:00+00:00")
_LATER = timedelta(weeks=13)
_RETURN = _SEASON[0] + _LATER
_BEGIN, _END = "2013-07-20", f"{_RETURN + timedelta(weeks=2):%Y-%m-%d}"
_RECALLING = """
[[triggers]]
name = "seasons"
cron = "30 11 * * *"
pipeline = "recalling"
"""


def repeat_season(folder: Path) -> None:
    """Let the flights and the weather of the season follow again, thirteen weeks later, and end there."""
    for name, time in (("flights", "scheduled_departure"), ("weather", "time")):
        file = folder / "data" / f"{name}.parquet"
        rows = pl.read_parquet(file)
        times = [column for column, kind in rows.schema.items() if isinstance(kind, pl.Datetime)]
        season = rows.filter(pl.col(time).is_between(*_SEASON, closed="left"))
        again = season.with_columns(pl.col(times) + _LATER)
        if "flight_id" in rows.columns:
            again = again.with_columns(_name_again(rows.schema["flight_id"]))
        pl.concat([rows.filter(pl.col(time) < _RETURN), again]).sort(time, maintain_order=True).write_parquet(file)


def _name_again(kind: pl.DataType) -> pl.Expr:
    """Return ids that no other flight has."""
    column = pl.col("flight_id")
    return (column + "-again" if kind == pl.String else column + 100_000_000).alias("flight_id")


def set_policy(folder: Path, *, recalling: bool) -> Project:
    """Train on four weeks, and compare earlier releases each day, or not."""
    policy = folder / "tidemill.toml"
    text = policy.read_text(encoding="utf-8").replace('test = "7d"\n', 'test = "7d"\nwindow = "28d"\n')
    policy.write_text(text + (_RECALLING if recalling else ""), encoding="utf-8")
    code = folder / "pipeline.py"
    text = code.read_text(encoding="utf-8").replace("materialization, tr", "materialization, recalling, tr")
    code.write_text(text.replace('"percentages", "t', '"percentages", "recalling", "t'), encoding="utf-8")
    return Project(folder)


def replay(folder: Path, *, recalling: bool) -> tuple[pl.DataFrame, list[Route]]:
    """Return the loss of each served row by its key, and the routes."""
    project = copy_example(folder)
    repeat_season(project.folder)
    project = set_policy(project.folder, recalling=recalling)

    def report_progress(at: datetime, message: str) -> None:
        print(f"{at:%Y-%m-%d}  {message}", file=sys.stderr, flush=True)

    finished = Replay(
        project, project.policy, "", choose_period(project, "", _BEGIN, _END), folder / "replay", report_progress
    )
    finished.run()
    routes = finished.books.routes.find()
    for route in routes:
        report_progress(route.since, route.reason)
    served = finished.read_predictions().drop_nulls("truth")
    classes = finished.load_signature(served["release"][0]).classes
    late = served["probability"].list.get(list(classes).index("true"))
    known = served["truth"].cast(pl.String).str.to_lowercase() == "true"
    chance = np.clip(np.where(known, late, 1 - late), 1e-6, 1.0)
    return served.select("key", "time", "release", loss=pl.Series(-np.log(chance))), routes


def summarize(recalled: pl.DataFrame, trained: pl.DataFrame, routes: list[Route]) -> dict[str, Any]:
    """Return the recalls, and the losses of the season that came back with and without them."""
    pairs = recalled.join(trained, on="key", suffix="_trained").filter(pl.col("time") >= _RETURN).sort("time")
    differences = (pairs["loss_trained"] - pairs["loss"]).to_numpy()
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5 * estimate_inflation(differences)
    recalls = [route for route in routes if route.change == "recall"]
    return {
        "rows": pairs.height,
        "recall": float(pairs["loss"].mean()),  # type: ignore[arg-type]  # a number
        "training alone": float(pairs["loss_trained"].mean()),  # type: ignore[arg-type]  # a number
        "lower by": float(differences.mean()),
        "error": error,
        "recalls": [
            {
                "time": f"{route.since:%Y-%m-%d %H:%M}",
                "days after the return": (route.since - _RETURN) / timedelta(days=1),
                "rows after the return": pairs.filter(pl.col("time") < route.since).height,
                "reason": route.reason,
            }
            for route in recalls
        ],
    }


def main() -> None:
    """Replay with and without recall, and print a summary or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.season", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="accepted: the replay is short")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    found = []
    for recalling in (True, False):
        with tempfile.TemporaryDirectory(prefix="tidemill-season-") as temporary:
            found.append(replay(Path(temporary), recalling=recalling))
    figures = summarize(found[0][0], found[1][0], found[0][1])
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"July comes back on {_RETURN:%Y-%m-%d}; {figures['rows']:,} labelled rows of it")
    for recall in figures["recalls"]:
        print(
            f"  recall {recall['time']}, {recall['days after the return']:.1f} days and "
            f"{recall['rows after the return']:,} rows after the return: {recall['reason']}"
        )
    print(
        f"  log loss {figures['recall']:.4f} with recall, {figures['training alone']:.4f} with training alone: "
        f"{figures['lower by']:.4f} lower (standard error {figures['error']:.4f}, for dependent rows)"
    )
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
