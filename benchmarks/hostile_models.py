"""Run models that do harm as champion, challenger and shadow, and measure the others and the end of the service.

For each kind of harm and each role, requests that make the model do harm are sent without a pause, while two other
models are asked at a fixed rate: one in the process of the service, and one in a process of its own. Blocks of requests
beside harm alternate with blocks in which the same model gets the same number of harmless requests, so that both meet
what else the machine does. The p99 of all requests of each side are compared, and the medians of the p99 of the blocks.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple, cast

from benchmarks._hostile_models import make_harmful_row, make_hostile_package
from benchmarks._report import describe_commit, describe_machine, write_between
from benchmarks._served_models import RunningService, make_package, make_rows, publish, serving
from tidemill.core.model import Model
from tidemill.core.route import Role

KINDS = ("sleep", "loop", "leak", "exit", "leave", "crash")
ROLES = ("champion", "challenger", "shadow")
_OTHERS = ("light", "fine")
_LABELS = {"light": "model in the service", "fine": "model in a process of its own", "health": "`/health`"}
_PAGE = Path(__file__).parents[1] / "docs/reliability.md"
_INTERVAL = 0.01
_REST = 1.2
"""Seconds after each block: a model that hangs is ended after 0.5 s, and three ends in a row make a pause of 1 s."""
_SERVE = """
import sys
from pathlib import Path
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.core.serving import Serving
from tidemill.serving.server import serve

workspace = open_workspace(Path(sys.argv[1]))
limits = Serving(timeout="0.5s", memory_mb=512)
settings = {name: limits for name in workspace.board.routes() if name not in ("light", "fine")}
ready = lambda address: print(address, flush=True)
serve(workspace, SystemClock(), port=0, settings=settings, ready=ready)
"""


Blocks = dict[str, list[list[float]]]
"""The seconds of each request, by model and block."""


class Measured(NamedTuple):
    """The times of the others, usual and beside a model that does harm, and the statuses of the latter."""

    usual: Blocks
    beside: Blocks
    failed: int
    statuses: dict[int, int]


def find_p99(times: Sequence[float]) -> float:
    """Return the p99 in milliseconds."""
    return sorted(times)[math.ceil(len(times) * 0.99) - 1] * 1000


def find_p99_of_all(blocks: Sequence[Sequence[float]]) -> float:
    """Return the p99 of all requests in milliseconds."""
    return find_p99([seconds for block in blocks for seconds in block])


def find_median_p99(blocks: Sequence[Sequence[float]]) -> float:
    """Return the median of the p99 of the blocks in milliseconds."""
    return statistics.median(map(find_p99, blocks))


def ask(service: RunningService, path: str, body: bytes = b"", connection: HTTPConnection | None = None) -> int:
    """Send a request, over a connection of its own unless one is given; return the status."""
    line = connection or HTTPConnection(service.host, service.port, timeout=60)
    try:
        line.request("POST" if body else "GET", path, body or None)
        response = line.getresponse()
        response.read()
        return response.status
    finally:
        if connection is None:
            line.close()


def measure_others(service: RunningService, body: bytes, count: int) -> tuple[dict[str, list[float]], int]:
    """Ask the other models at a fixed rate; return the seconds of each request, and how many requests failed."""
    times: dict[str, list[float]] = {model: [] for model in (*_OTHERS, "health")}
    failed = 0

    def work(model: str) -> None:
        nonlocal failed
        line = HTTPConnection(service.host, service.port, timeout=60)
        planned = time.perf_counter()
        for _ in range(count):
            planned += _INTERVAL
            time.sleep(max(0.0, planned - time.perf_counter()))
            began = time.perf_counter()
            path = "/health" if model == "health" else f"/predict/{model}"
            failed += ask(service, path, b"" if model == "health" else body, line) != 200
            times[model].append(time.perf_counter() - began)
        line.close()

    threads = [threading.Thread(target=work, args=(model,)) for model in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, failed


def measure(service: RunningService, model: str, count: int, rounds: int) -> Measured:
    """Measure the others in turn without harm and while a model does harm."""
    body = json.dumps({"rows": make_rows(1, 7).to_dicts()}).encode()
    harmful = json.dumps({"rows": [make_harmful_row()]}).encode()
    statuses: dict[int, int] = {}

    def measure_beside(request: bytes, blocks: Blocks) -> int:
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(0.05):
                with suppress(OSError, HTTPException):
                    status = ask(service, f"/predict/{model}", request)
                    if request == harmful:
                        statuses[status] = statuses.get(status, 0) + 1

        thread = threading.Thread(target=send)
        thread.start()
        times, failed = measure_others(service, body, count)
        stop.set()
        thread.join()
        for other, each in times.items():
            blocks.setdefault(other, []).append(each)
        time.sleep(_REST)
        return failed

    usual: Blocks = {}
    beside: Blocks = {}
    failed = sum(measure_beside(body, usual) + measure_beside(harmful, beside) for _ in range(rounds))
    return Measured(usual, beside, failed, statuses)


def run(count: int, rounds: int, kinds: Sequence[str], roles: Sequence[str]) -> dict[str, Any]:
    """Return the figures: for each role and kind the p99 of the others, and the seconds from SIGTERM to the end."""
    cases: dict[str, Measured] = {}
    names = {f"{kind} as {role}": f"{kind}-{role}" for kind in kinds for role in roles}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _publish_models(folder, kinds, roles)
        with serving(folder, _SERVE) as service:
            deadline = time.monotonic() + 300
            while ask(service, "/ready") != 200:
                if time.monotonic() > deadline:
                    raise SystemExit("the service is not ready")
                time.sleep(0.2)
            for case, model in names.items():
                cases[case] = measure(service, model, count, rounds)
                row = format_case(cases[case])
                print(f"{case}: " + "; ".join(f"{column} {text}" for column, text in row.items()), file=sys.stderr)
            end, code = _measure_end(service, names.values())
    summary: dict[str, Any] = {
        "requests to others that failed": sum(measured.failed for measured in cases.values()),
        "seconds from SIGTERM to the end while all of them do harm": end,
        "its exit code": code,
    }
    for other in (*_OTHERS, "health"):
        usual = [block for measured in cases.values() for block in measured.usual[other]]
        beside = [block for measured in cases.values() for block in measured.beside[other]]
        ratios = [
            find_p99_of_all(measured.beside[other]) / find_p99_of_all(measured.usual[other])
            for measured in cases.values()
        ]
        summary[f"{_LABELS[other]}: p99 of all requests"] = _compare(find_p99_of_all(usual), find_p99_of_all(beside))
        summary[f"{_LABELS[other]}: median p99 of a block"] = _compare(find_median_p99(usual), find_median_p99(beside))
        summary[f"{_LABELS[other]}: cases in which p99 is at most doubled"] = (
            f"{sum(ratio <= 2 for ratio in ratios)} of {len(ratios)}"
        )
    return {"cases": {case: format_case(measured) for case, measured in cases.items()}, "summary": summary}


def format_case(measured: Measured) -> dict[str, str]:
    """Return the cells of a case: the p99 of each other model, and the statuses of the model that does harm."""
    cells = {
        _LABELS[other]: _compare(find_p99_of_all(measured.usual[other]), find_p99_of_all(measured.beside[other]))
        for other in measured.usual
    }
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(measured.statuses.items()))
    return cells | {"its own replies": statuses}


def format_results(figures: Mapping[str, Any]) -> str:
    """Return the machine, the commit, a table with a row for each case, and the figures of all cases."""
    columns = list(next(iter(figures["cases"].values())))
    rows = [["model", *columns], *([case, *cells.values()] for case, cells in figures["cases"].items())]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    summary = [f"- {name}: {value}" for name, value in figures["summary"].items()]
    return "\n".join((f"{describe_machine()}; commit {describe_commit()}", "", *lines, "", *summary))


def _compare(usual: float, beside: float) -> str:
    return f"{usual:.1f} → {beside:.1f} ms ({beside / usual:.2f})"


def _publish_models(folder: Path, kinds: Sequence[str], roles: Sequence[str]) -> None:
    good = make_package("lightgbm")
    publish(folder, "light", (good, "champion"))
    publish(folder, "fine", (make_package("sklearn"), "champion"))
    for kind in kinds:
        bad = make_hostile_package(kind)
        for role in roles:
            arms: tuple[tuple[Model, Role], ...] = ((good, "champion"), (bad, cast("Role", role)))
            publish(folder, f"{kind}-{role}", *(arms if role != "champion" else ((bad, "champion"),)))


def _measure_end(service: RunningService, models: Iterable[str]) -> tuple[float, int]:
    """Let all models do harm, and return the seconds from SIGTERM to the end of the service, and its exit code."""
    harmful = json.dumps({"rows": [make_harmful_row()]}).encode()
    for model in models:
        threading.Thread(target=_ask_quietly, args=(service, f"/predict/{model}", harmful), daemon=True).start()
    time.sleep(0.3)
    began = time.monotonic()
    service.process.terminate()
    code = service.process.wait(60)
    return round(time.monotonic() - began, 1), code


def _ask_quietly(service: RunningService, path: str, body: bytes) -> None:
    with suppress(OSError, HTTPException):
        ask(service, path, body)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile_models", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two kinds of harm and two blocks: about a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--count", type=int, default=150, help="requests to each other model in a block")
    parser.add_argument("--rounds", type=int, default=0, help="blocks of each side")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="kinds of harm")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES, help="roles of the model that does harm")
    parser.add_argument("--markdown", action="store_true", help="write the table to docs/reliability.md")
    options = parser.parse_args()
    kinds = options.kinds or (("sleep", "leave") if options.quick else KINDS)
    figures = run(options.count, options.rounds or (2 if options.quick else 5), kinds, options.roles)
    table = format_results(figures)
    print(json.dumps(figures) if options.json else table)
    if options.markdown:
        write_between(_PAGE, "hostile models", table)


if __name__ == "__main__":
    main()
