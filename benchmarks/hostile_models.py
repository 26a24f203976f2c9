"""Run models that do harm as champion, challenger and shadow, and measure the others and the end of the service.

For each kind of harm and each role, requests that make the model do harm are sent without a pause, while two other
models are asked at a fixed rate: one in the process of the service, and one in a process of its own. Blocks of requests
beside harm alternate with blocks in which the same model gets the same number of harmless requests, so that both meet
what else the machine does. The p99 of all requests of each side are compared, and the medians of the p99 of the blocks.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._hostile_models import make_harmful_row, make_hostile_package
from benchmarks._report import print_figures
from benchmarks._served_models import RunningService, make_package, make_rows, publish, serving

KINDS = ("sleep", "loop", "leak", "exit", "leave", "crash")
ROLES = ("champion", "challenger", "shadow")
_OTHERS = ("light", "fine")
_INTERVAL = 0.01
_REST = 1.2
"""Seconds after each block: a model that hangs is ended after 1 s."""
_SERVE = """
import sys
from pathlib import Path
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.core.serving import Serving
from tidemill.serving.server import serve

class Settings(dict):
    def get(self, name, default=None):
        return default if name in ("light", "fine") else Serving(timeout="1s", memory_mb=512)

workspace = open_workspace(Path(sys.argv[1]))
ready = lambda address: print(address, flush=True)
serve(workspace, SystemClock(), port=0, settings=Settings(), ready=ready)
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
    return sorted(times)[int(len(times) * 0.99)] * 1000


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


def run(count: int, rounds: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return the figures: for each role and kind the ratio of the p99, and the seconds from SIGTERM to the end."""
    figures: dict[str, Any] = {}
    ratios: dict[str, list[float]] = {}
    usual: Blocks = {}
    beside: Blocks = {}
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = make_package("lightgbm")
        publish(folder, "light", (good, "champion"))
        publish(folder, "fine", (make_package("sklearn"), "champion"))
        for kind in kinds:
            bad = make_hostile_package(kind)
            publish(folder, f"{kind}-champion", (bad, "champion"))
            publish(folder, f"{kind}-challenger", (good, "champion"), (bad, "challenger"))
            publish(folder, f"{kind}-shadow", (good, "champion"), (bad, "shadow"))
        with serving(folder, _SERVE) as service:
            deadline = time.monotonic() + 300
            while ask(service, "/ready") != 200:
                if time.monotonic() > deadline:
                    raise SystemExit("the service is not ready")
                time.sleep(0.2)
            for kind in kinds:
                for role in ROLES:
                    measured = measure(service, f"{kind}-{role}", count, rounds)
                    failed += measured.failed
                    shown = []
                    for other in measured.usual:
                        before, after = (find_p99_of_all(each[other]) for each in (measured.usual, measured.beside))
                        middle = [find_median_p99(each[other]) for each in (measured.usual, measured.beside)]
                        shown.append(
                            f"{other} {before:.1f} → {after:.1f} ms (blocks {middle[0]:.1f} → {middle[1]:.1f})"
                        )
                        ratios.setdefault(other, []).append(after / before)
                        usual.setdefault(other, []).extend(measured.usual[other])
                        beside.setdefault(other, []).extend(measured.beside[other])
                    figures[f"{kind} as {role}"] = f"{', '.join(shown)}; its own statuses {measured.statuses}"
                    print(f"{kind} as {role}: {figures[f'{kind} as {role}']}", flush=True)
            harmful = json.dumps({"rows": [make_harmful_row()]}).encode()
            for kind in kinds:
                for role in ROLES:
                    threading.Thread(
                        target=_ask_quietly, args=(service, f"/predict/{kind}-{role}", harmful), daemon=True
                    ).start()
            time.sleep(0.3)
            began = time.monotonic()
            service.process.terminate()
            code = service.process.wait(60)
            figures["seconds from SIGTERM to the end"] = round(time.monotonic() - began, 1)
            figures["its exit code"] = code
    figures["requests to others that failed"] = failed
    for other, values in ratios.items():
        before, after = find_p99_of_all(usual[other]), find_p99_of_all(beside[other])
        figures[f"{other}: p99 of all requests"] = f"{before:.1f} → {after:.1f} ms ({after / before:.2f} times)"
        before, after = find_median_p99(usual[other]), find_median_p99(beside[other])
        figures[f"{other}: median p99 of a block"] = f"{before:.1f} → {after:.1f} ms ({after / before:.2f} times)"
        figures[f"{other}: cases in which p99 is at most doubled"] = (
            f"{sum(each <= 2 for each in values)} of {len(values)}"
        )
        figures[f"{other}: the largest ratio of a case"] = round(max(values), 2)
    return figures


def _ask_quietly(service: RunningService, path: str, body: bytes) -> None:
    with suppress(OSError, HTTPException):
        ask(service, path, body)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two kinds of harm, 100 requests to each other model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=100, help="requests to each other model in a block")
    parser.add_argument("--rounds", type=int, default=6, help="blocks of each side")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of harm")
    arguments = parser.parse_args()
    if arguments.quick:
        figures = run(50, 2, ("sleep", "leave"))
    else:
        figures = run(arguments.count, arguments.rounds, tuple(arguments.kinds))
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
