"""Replay real streams under the policy that `tidemill init` writes, beside no training and a calendar of as many.

The streams come from packages on PyPI and are not the examples of the project: their rhythm, task and size differ.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks._hindsight import judge_decisions
from benchmarks._processes import run
from benchmarks._report import describe_machine, write_between
from benchmarks._stream_tables import STREAMS, Stream, write_table
from tidemill.backtest.compare import compare
from tidemill.backtest.comparison import BacktestResult
from tidemill.backtest.period import choose_period
from tidemill.backtest.policies import PolicyPlan, build_calendar_policy, build_static_policy
from tidemill.backtest.stories import describe_difference
from tidemill.errors import TidemillError
from tidemill.project.project import Project

_CACHE = Path("~/.cache/tidemill-benchmarks").expanduser()
_PAGE = Path(__file__).parents[1] / "docs" / "howto" / "backtest-a-policy.md"
_QUICK = ("weather", "bicycles", "trains")


def create_project(stream: Stream, folder: Path, cache: Path, *, quick: bool) -> Project:
    """Make the table of a stream, and the project that `tidemill init` writes for it."""
    table = folder / f"{stream.name}.csv"
    write_table(stream, cache, table, quick=quick)
    options = ["--task", stream.task] if stream.task else []
    command = [sys.executable, "-m", "tidemill", "init", stream.name, "--from", table.name, "--label", stream.label]
    process = run([*command, "--time", "time", *options], folder, os.environ)
    if process.code:
        raise SystemExit(f"tidemill init of {stream.name} failed: {process.err or process.out}")
    return Project(folder / stream.name)


def replay(project: Project, workspace: Path, begin: str = "") -> BacktestResult:
    """Replay the last two thirds of a stream, or since `begin`, under the three policies; keep the loop's workspace."""
    period = choose_period(project, "", begin, "")
    policy = project.policy

    def report_progress(name: str, at: datetime, message: str) -> None:
        print(f"{at:%Y-%m-%d}  {project.name:12} {name:9} {message}", file=sys.stderr, flush=True)

    plans: dict[str, PolicyPlan] = {
        "loop": policy,
        "static": build_static_policy(policy),
        "calendar": lambda loop: build_calendar_policy(policy, period, loop.trainings),
    }
    return compare(project, plans, "", period, report_progress, keep=workspace)


def measure(stream: Stream, cache: Path, keep: Path | None, *, quick: bool) -> dict[str, Any]:
    """Return the figures of one stream as plain data."""
    with tempfile.TemporaryDirectory(prefix="tidemill-streams-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        project = create_project(stream, folder, cache, quick=quick)
        workspace = project.state_folder / "backtest"
        begun = time.monotonic()
        result = replay(project, workspace, stream.begin)
        seconds = time.monotonic() - begun
        loop = result.find_result("loop")
        hindsight = judge_decisions(project, workspace, loop)
    difference = result.difference("calendar")
    metrics = {name: result.find_result(name).metrics[result.metric] for name in ("loop", "static", "calendar")}
    return {
        "metric": result.metric,
        "predictions": loop.predictions,
        "days": round((result.period.end - result.period.begin).total_seconds() / 86_400),
        **{name: round(value, 5) for name, value in metrics.items()},
        "trainings": loop.trainings,
        "calendar trainings": result.find_result("calendar").trainings,
        "difference": [round(value, 5) for value in (difference.mean, difference.low, difference.high)],
        "the loop is": describe_difference(difference),
        "margin": project.model("").gate.margin,
        "causes": loop.causes,
        "endings": dict(Counter(story.ending for story in loop.stories)),
        **hindsight._asdict(),
        "looks": {check: counts for check, counts in loop.verdicts.items() if check != "gate"},
        "failed runs": len(loop.failures),
        "seconds": round(seconds, 1),
    }


def to_table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    head = (
        "stream",
        "rows : days",
        "metric",
        "static",
        "**loop** : trainings",
        "calendar",
        "loss: loop − calendar",
        "refused : wrong",
        "promoted : wrong",
        "rolled back : wrong",
        "drift failed",
        "seconds",
    )
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, found in figures.items():
        if "failed" in found:
            rows.append(f"| {name} | failed: {found['failed']} " + "| – " * (len(head) - 2) + "|")
            continue
        mean, low, high = found["difference"]
        drift = found["looks"].get("drift", {})
        cells = (
            name,
            f"{found['predictions']:,} : {found['days']}",
            found["metric"],
            f"{found['static']:.4g}",
            f"**{found['loop']:.4g}** : {found['trainings']}",
            f"{found['calendar']:.4g}",
            f"{mean:+.3g} ({low:+.3g} to {high:+.3g})",
            f"{found['refusals']} : {found['wrong_refusals']}",
            f"{found['promotions']} : {found['wrong_promotions']}",
            f"{found['rollbacks']} : {found['wrong_rollbacks']}",
            f"{drift.get('fail', 0)} of {sum(drift.values())}",
            f"{found['seconds']:.0f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    streams = {stream.name: stream for stream in STREAMS}
    notes = [f"- *{name}*: {streams[name].about}; times: {streams[name].times}" for name in figures]
    return "\n".join([*rows, "", *notes])


def main() -> None:
    """Replay the streams, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"the newest rows of {', '.join(_QUICK)}")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--markdown", action="store_true", help=f"write the table to {_PAGE.name}")
    parser.add_argument("--stream", action="append", choices=[stream.name for stream in STREAMS], help="only these")
    parser.add_argument("--data", type=Path, default=_CACHE, help=f"the folder of downloaded packages: {_CACHE}")
    parser.add_argument("--keep", type=Path, help="a folder that keeps each project with the loop's workspace")
    parser.add_argument(
        "--figures", type=Path, help="a JSON file of figures: streams that it has are not replayed again"
    )
    options = parser.parse_args()
    names = options.stream or (_QUICK if options.quick else [stream.name for stream in STREAMS])
    kept = options.figures
    found = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for stream in (stream for stream in STREAMS if stream.name in names and stream.name not in found):
        try:
            found[stream.name] = measure(stream, options.data, options.keep, quick=options.quick)
        except TidemillError as failed:
            found[stream.name] = {"failed": str(failed)}
        print(json.dumps({stream.name: found[stream.name]}), file=sys.stderr, flush=True)
        if kept:
            kept.write_text(json.dumps(found, indent=2))
    figures = {stream.name: found[stream.name] for stream in STREAMS if stream.name in names}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    text = f"{to_table(figures)}\n\n{describe_machine()}."
    print(text)
    if options.markdown:
        write_between(_PAGE, "streams", text)


if __name__ == "__main__":
    main()
