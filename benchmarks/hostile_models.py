"""Run models that do harm as champion, challenger and shadow, and measure the others and the end of the service.

For each kind of harm and each role, requests that make the model do harm are sent without a pause, while two other
models are asked at a fixed rate: one in the process of the service, and one in a process of its own. Their p99 is
compared with that just before, when the same model gets the same number of harmless requests.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
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


class Measured(NamedTuple):
    """The p99 of the others (ms), usual and beside a model that does harm, and the statuses of the latter."""

    usual: dict[str, float]
    beside: dict[str, float]
    failed: int
    statuses: dict[int, int]


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


def measure_others(service: RunningService, body: bytes, count: int) -> tuple[dict[str, float], int]:
    """Ask the other models at a fixed rate; return the p99 of each in milliseconds, and how many requests failed."""
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
    return {model: sorted(each)[int(len(each) * 0.99)] * 1000 for model, each in times.items()}, failed


def measure(service: RunningService, model: str, count: int) -> Measured:
    """Measure the others without harm, then while a model does harm."""
    body = json.dumps({"rows": make_rows(1, 7).to_dicts()}).encode()
    harmful = json.dumps({"rows": [make_harmful_row()]}).encode()
    statuses: dict[int, int] = {}

    def measure_beside(request: bytes) -> tuple[dict[str, float], int]:
        stop = threading.Event()
        statuses.clear()

        def send() -> None:
            while not stop.wait(0.05):
                with suppress(OSError, HTTPException):
                    status = ask(service, f"/predict/{model}", request)
                    statuses[status] = statuses.get(status, 0) + 1

        thread = threading.Thread(target=send)
        thread.start()
        result = measure_others(service, body, count)
        stop.set()
        thread.join()
        return result

    usual, failed_before = measure_beside(body)
    beside, failed = measure_beside(harmful)
    return Measured(usual, beside, failed + failed_before, dict(statuses))


def run(count: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return the figures: for each role and kind the ratio of the p99, and the seconds from SIGTERM to the end."""
    figures: dict[str, Any] = {}
    ratios: dict[str, list[float]] = {}
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
                    measured = measure(service, f"{kind}-{role}", count)
                    failed += measured.failed
                    for other, usual in measured.usual.items():
                        ratios.setdefault(other, []).append(measured.beside[other] / usual)
                    shown = ", ".join(
                        f"{other} {measured.usual[other]:.1f} → {measured.beside[other]:.1f} ms" for other in ratios
                    )
                    figures[f"{kind} as {role}"] = f"{shown}; its own statuses {measured.statuses}"
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
        figures[f"{other}: p99 beside harm / usual p99, median"] = round(statistics.median(values), 2)
        figures[f"{other}: the same, largest"] = round(max(values), 2)
    return figures


def _ask_quietly(service: RunningService, path: str, body: bytes) -> None:
    with suppress(OSError, HTTPException):
        ask(service, path, body)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two kinds of harm, 100 requests to each other model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=300, help="requests to each other model")
    arguments = parser.parse_args()
    figures = run(100, ("sleep", "leave")) if arguments.quick else run(arguments.count, KINDS)
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
