"""Send wrong, odd and hostile requests to a service, then hold thousands of slow connections open.

Counts statuses that the OpenAPI document does not declare, requests without a reply within the limits, and the growth
of the service's memory; with slow connections, the share of normal requests that are answered.
"""

import argparse
import collections
import json
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._hostile_models import make_harmful_row, make_hostile_package
from benchmarks._report import print_figures
from benchmarks._served_models import SERVE, RunningService, make_package, make_rows, publish, serving

_FEW_DESCRIPTORS = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))\n"
_REPLY_SECONDS = 75.0  # the longest defined wait: 30 s for the body, 30 s for a free process, 10 s for the model
_MODELS = ("light", "fenced", "hostile")
_PATHS = (
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/",
    "/v2",
    "/predict/",
    "/labels/",
    "//",
    "/%00",
    "/é",
    "*",
)
_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "BREW")
_HOSTS = ("localhost", "127.0.0.1:1", "[::1]", "x", "evil.example", "", "a b", "\xff", "[::")
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 1e-308, 2**63, 2**64, -(2**63), 10**400, "", "web", "\ud800", "\x00", "x" * 5000, [], [1],
    {}, {"a": 1}, "2026-01-01", "NaN", float("nan"), float("inf"),
)  # fmt: skip


class Outcome(NamedTuple):
    """How a request ended: its status, 0 for a close without a reply, -1 without a reply in time; and the seconds."""

    method: str
    path: str
    status: int
    seconds: float


class Fuzzer:
    """Makes requests from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._row = make_rows(1, 7).to_dicts()[0]

    def make(self) -> tuple[str, str, bytes, bool]:
        """Return a method, a path, the bytes of a request, and whether it is whole: a reply to it must come."""
        chance = self._random
        method = "POST" if chance.random() < 0.7 else chance.choice(_METHODS)
        model = chance.choice((*_MODELS, "absent", "a" * 300, "%2e%2e", "fenced?x=1"))
        path = f"/{chance.choice(('predict', 'labels'))}/{model}" if chance.random() < 0.8 else chance.choice(_PATHS)
        body = self._make_body("labels" in path)
        headers = [f"Host: {chance.choice(_HOSTS) if chance.random() < 0.15 else 'localhost'}"]
        if chance.random() < 0.15:
            headers += [self._make_header() for _ in range(chance.choice((1, 1, 1, 1, 2, 150)))]
        form = chance.random()
        if form < 0.85 or method != "POST":
            headers.append(f"Content-Length: {len(body)}")
            content = body
        elif form < 0.96:
            headers.append("Transfer-Encoding: chunked")
            size = chance.choice((1, 7, 1000))
            parts = [body[start : start + size] for start in range(0, min(len(body), 20 * size), size)]
            content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            headers.append(f"Content-Length: {chance.choice(('abc', '-1', '99999999999', '1e3', '0', '10_0'))}")
            content = body
        if chance.random() < 0.1:
            headers += ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
        version = chance.choice(("1.1",) * 60 + ("1.0", "2.0", "0.9", "1.9"))
        head = "\r\n".join([f"{method} {path} HTTP/{version}", *headers, "", ""])
        request = head.encode("utf-8", "surrogatepass") + content
        if chance.random() < 0.05:
            request = self._damage(request)
        is_whole = chance.random() < 0.95
        return method, path, request if is_whole else request[: chance.randrange(1, len(request))], is_whole

    def _make_body(self, labels: bool) -> bytes:
        chance = self._random
        kind = chance.random()
        if kind < 0.1:
            return chance.choice(
                (b"", b"null", b"[]", b"{", b"[" * 50_000, b'{"rows":' * 900, b"\xff\xfe{}", b"\x00" * 64, b"a=1")
            )
        if labels:
            keys = chance.sample(("id", "key", "time", "value", "known_at", "x"), chance.randrange(7))
            items: list[Any] = [{key: chance.choice(_VALUES) for key in keys} for _ in range(chance.choice((0, 1, 3)))]
            return _encode({"labels": items})
        rows: list[Any] = []
        for _ in range(chance.choice((0, 1, 1, 1, 2, 50))):
            row = dict(self._row)
            for _ in range(chance.choice((0, 0, 0, 1, 3))):
                name = chance.choice((*row, "other", "", "\x00"))
                if chance.random() < 0.2:
                    row.pop(name, None)
                else:
                    row[name] = chance.choice(_VALUES)
            rows.append(row)
        if kind < 0.101:
            rows = [make_harmful_row()]
        shape = chance.random()
        return _encode(
            {"rows": rows} if shape < 0.9 else {"keys": rows, "features": rows[:1]} if shape < 0.95 else rows
        )

    def _make_header(self) -> str:
        chance = self._random
        return chance.choice(
            (
                "Origin: http://[", "Origin: null", "Origin: http://localhost", "Origin: http://evil.example",
                "Content-Encoding: gzip", "Expect: 100-continue", "Authorization: Bearer x", "Authorization: \xff",
                "X: " + "y" * chance.choice((1, 10_000, 40_000)), "Connection: close", "Cookie: a=b", "Host: second",
                "Transfer-Encoding: gzip", "Content-Type: text/plain", "X\x00: 1", "no colon", " folded: 1",
            )
        )  # fmt: skip

    def _damage(self, request: bytes) -> bytes:
        content = bytearray(request)
        for _ in range(self._random.choice((1, 3, 20))):
            content[self._random.randrange(len(content))] = self._random.randrange(256)
        return bytes(content)


def _encode(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def send(service: RunningService, method: str, path: str, request: bytes) -> Outcome:
    """Send a request, close this side of the connection, and return how it ended."""
    began, content = time.monotonic(), b""
    status = -1
    with suppress(TimeoutError), socket.create_connection((service.host, service.port), timeout=_REPLY_SECONDS) as line:
        try:
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
            while b"\r\n" not in content or content.startswith(b"HTTP/1.1 100"):
                content = content.partition(b"\r\n\r\n")[2] if content.startswith(b"HTTP/1.1 100") else content
                part = line.recv(65_536)
                if not part:
                    break
                content += part
            status = int(content.split()[1]) if content.startswith(b"HTTP/") else 0
        except (ConnectionError, ValueError, IndexError):
            status = 0
    return Outcome(method, path, status, time.monotonic() - began)


def fuzz(service: RunningService, count: int, seed: int, threads: int = 8) -> list[Outcome]:
    """Send so many requests, from several threads."""
    outcomes: list[Outcome] = []

    def work(number: int) -> None:
        fuzzer = Fuzzer(seed * 1000 + number)
        for _ in range(count // threads):
            method, path, request, is_whole = fuzzer.make()
            outcome = send(service, method, path, request)
            if is_whole or outcome.status:
                outcomes.append(outcome)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return outcomes


def list_undeclared(outcomes: list[Outcome], document: dict[str, Any]) -> collections.Counter[tuple[str, str, int]]:
    """Return the statuses that the document does not declare for their path and method."""
    every = {
        int(status) for path in document["paths"].values() for each in path.values() for status in each["responses"]
    }
    undeclared: collections.Counter[tuple[str, str, int]] = collections.Counter()
    for outcome in outcomes:
        verb = "/" + outcome.path.strip("/").split("/")[0]
        path = next((known for known in document["paths"] if known.split("/{")[0] == verb), "")
        method = "get" if outcome.method == "HEAD" else outcome.method.lower()
        responses = document["paths"].get(path, {}).get(method, {}).get("responses")
        declared = {int(status) for status in responses} | {404} if responses else every
        if outcome.status > 0 and outcome.status not in declared:
            undeclared[outcome.method, verb, outcome.status] += 1
    return undeclared


def read_memory(service: RunningService) -> float:
    """Return the resident memory of the service's own process, in MB."""
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def try_slow_connections(service: RunningService, count: int, seconds: float) -> tuple[int, int, list[float]]:
    """Hold slow connections while normal requests are sent; return how many were sent and answered, and the seconds."""
    body = _encode({"rows": make_rows(1, 7).to_dicts()})
    head = b"POST /predict/light HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
    starts = (b"", b"POST /pre", head, head + b"\r\n" + body[:10])
    lines: list[socket.socket] = []

    def open_one(number: int) -> None:
        with suppress(OSError):
            line = socket.create_connection((service.host, service.port), timeout=30)
            line.sendall(starts[number % len(starts)])
            line.setblocking(False)
            lines.append(line)

    for number in range(count):
        open_one(number)
    sent = answered = 0
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        outcome = send(service, "POST", "/predict/light", head + b"Connection: close\r\n\r\n" + body)
        sent, answered = sent + 1, answered + (outcome.status == 200)
        times.append(outcome.seconds)
        for line in lines[sent % 50 :: 50]:  # a byte now and then; a connection that was closed is opened again
            try:
                line.send(b"x")
            except OSError:
                lines.remove(line)
                line.close()
                open_one(sent)
    for line in lines:
        line.close()
    return sent, answered, times


def measure(count: int, slow: int, seed: int, descriptors: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Run everything against one service, and return the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder, "light", (make_package("lightgbm"), "champion"))
        publish(folder, "fenced", (make_package("sklearn"), "champion"), (make_package("lightgbm"), "shadow"))
        publish(
            folder, "hostile", (make_hostile_package("leave"), "champion"), (make_hostile_package("crash"), "shadow")
        )
        with serving(folder, _FEW_DESCRIPTORS.format(descriptors) + SERVE) as service:
            deadline = time.monotonic() + 180
            while send(service, "GET", "/ready", b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").status != 200:
                if time.monotonic() > deadline:
                    raise SystemExit("the service is not ready")
                time.sleep(0.2)
            with socket.create_connection((service.host, service.port)) as line:
                line.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                content = b""
                while part := line.recv(65_536):
                    content += part
            document = json.loads(content.partition(b"\r\n\r\n")[2])
            first = fuzz(service, count // 5, seed)
            before = read_memory(service)
            began = time.monotonic()
            rest = fuzz(service, count - count // 5, seed + 1)
            after = read_memory(service)
            report(f"{len(rest) / (time.monotonic() - began):.0f} requests/s")
            outcomes = first + rest
            sent, answered, times = try_slow_connections(service, slow, 15.0) if slow else (0, 0, [0.0])
            final = send(service, "GET", "/ready", b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").status
    undeclared = list_undeclared(outcomes, document)
    times.sort()
    return {
        "requests": len(outcomes),
        "statuses": dict(sorted(collections.Counter(outcome.status for outcome in outcomes).items())),
        "undeclared": {" ".join(map(str, key)): value for key, value in undeclared.items()},
        "without a reply in time": sum(outcome.status == -1 for outcome in outcomes),
        "slowest, s": round(max(outcome.seconds for outcome in outcomes), 2),
        "memory before, MB": round(before),
        "memory after, MB": round(after),
        "descriptors of the service": descriptors,
        "slow connections": slow,
        "normal requests beside them": sent,
        "of these answered": answered,
        "their p99, ms": round(times[int(len(times) * 0.99)] * 1000, 1),
        "ready at the end": final,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 requests and 200 slow connections")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--slow", type=int, default=2000, help="the number of slow connections")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--descriptors", type=int, default=1024, help="the descriptors that the service may use")
    arguments = parser.parse_args()
    count, slow = (2000, 200) if arguments.quick else (arguments.count, arguments.slow)
    report: Callable[[str], None] = (lambda _: None) if arguments.json else partial(print, flush=True)
    figures = measure(count, slow, arguments.seed, arguments.descriptors, report)
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
