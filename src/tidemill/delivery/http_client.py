"""Asks a prediction service over HTTP, and measures it under a fixed rate of requests."""

import asyncio
import contextlib
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np

from tidemill.checks.infrastructure import LoadResult
from tidemill.errors import TidemillError

_SECONDS = 30.0
_UNAVAILABLE = 503
_MOST_CONNECTIONS = 512


def add_secret(address: str, secret: str) -> str:
    """Return an address with a secret that the functions of this module send as a token; it is not part of messages.

    >>> add_secret("http://127.0.0.1:8000", "tm_x")
    'http://tm_x@127.0.0.1:8000'
    """
    return address.replace("://", f"://{secret}@", 1) if secret else address


def _split(address: str) -> tuple[str, dict[str, str]]:
    """Return the host and port of an address, and the headers of its secret."""
    secret, _, place = urlsplit(address).netloc.rpartition("@")
    return place, {"authorization": f"Bearer {secret}"} if secret else {}


def _open_tls(address: str) -> ssl.SSLContext | None:
    """Return the settings of TLS for an address; None without TLS.

    The certificate is that of the environment, for a name that users ask. Here a process of this machine is asked by
    its own address, which its report names, so the name cannot be verified.
    """
    if urlsplit(address).scheme != "https":
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def predict(address: str, model: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the predictions of a service for rows.

    Raises
    ------
    TidemillError
        if it does not answer, or answers with an error.
    """
    status, body = _request(address, f"/predict/{model}", msgspec.json.encode({"rows": rows}))
    reply = _decode(body)
    if status != 200:
        problem = reply.get("error", body[:200].decode(errors="replace"))
        why = _find_failure(address, model) if status == _UNAVAILABLE else ""
        problem = f"the service answers {status}: {problem}" + (f": {why}" if why else "")
        raise TidemillError(problem, str(reply.get("cure", "")))
    predictions: list[dict[str, Any]] = reply["predictions"]
    return [{"release": reply["release"], **prediction} for prediction in predictions]


def _find_failure(address: str, model: str) -> str:
    """Return which release of a model a service cannot load, and why; empty if it loaded all, or does not answer."""
    with contextlib.suppress(TidemillError, KeyError, TypeError):
        return str(_decode(_request(address, "/ready")[1])["models"][model]["failed"]["problem"])
    return ""


def is_healthy(address: str) -> bool:
    """Return whether a service answers that it is alive."""
    with contextlib.suppress(TidemillError):
        return _request(address, "/health")[0] == 200
    return False


def _request(address: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    place, headers = _split(address)
    connection = HTTPConnection(place, timeout=_SECONDS)
    if tls := _open_tls(address):
        connection = HTTPSConnection(place, timeout=_SECONDS, context=tls)
    try:
        headers["content-type"] = "application/json"
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException) as failure:
        problem = f"the service at {urlsplit(address).scheme}://{place} does not answer: {failure}"
        raise TidemillError(problem, "see the log of its process") from None
    finally:
        connection.close()


def _decode(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict)
    except msgspec.DecodeError:
        return {}


def measure_load(address: str, path: str, body: bytes | None, rate: float, seconds: float) -> LoadResult:
    """Send requests at a fixed rate, whether or not earlier ones are answered, and measure them.

    The time of a request counts from its planned arrival, so that a service that stalls cannot slow down the test
    (Schroeder, Wierman & Harchol-Balter 2006, "Open versus closed": an open system).
    """
    return asyncio.run(_measure(address, path, body, rate, seconds))


async def _measure(address: str, path: str, body: bytes | None, rate: float, seconds: float) -> LoadResult:
    loop, tls = asyncio.get_running_loop(), _open_tls(address)
    host, port = urlsplit(address).hostname or "127.0.0.1", urlsplit(address).port or 80
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: {host}:{port}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in _split(address)[1].items())
    content = "" if body is None else f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    request = f"{head}{content}\r\n".encode() + (body or b"")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    limit = asyncio.Semaphore(_MOST_CONNECTIONS)
    times: list[float] = []
    failures: list[str] = []

    async def send(planned: float) -> None:
        try:
            async with limit, asyncio.timeout(_SECONDS):
                reader, writer = idle.pop() if idle else await asyncio.open_connection(host, port, ssl=tls)
                writer.write(request)
                status, keeps = await _read_response(reader)
                if keeps:
                    idle.append((reader, writer))
                else:
                    writer.close()
            if status != 200:
                failures.append(f"status {status}")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as failure:
            failures.append(f"{type(failure).__name__}: {failure}".rstrip(": "))
        times.append(loop.time() - planned)

    count = max(1, round(rate * seconds))
    begun = loop.time()
    tasks = []
    for index in range(count):
        planned = begun + index / rate
        await asyncio.sleep(max(0.0, planned - loop.time()))
        tasks.append(asyncio.create_task(send(planned)))
    await asyncio.gather(*tasks)
    elapsed = loop.time() - begun
    for _, writer in idle:
        writer.close()
    middle, high = np.quantile(np.array(times) * 1000, [0.5, 0.99], method="higher")
    return LoadResult(
        requests=count,
        failed=len(failures),
        rate=count / max(elapsed, count / rate),
        p50_ms=float(middle),
        p99_ms=float(high),
        first_failure=failures[0] if failures else "",
    )


async def _read_response(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read one response; return its status, and whether the connection can be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = head.split("\r\n")
    length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)
    await reader.readexactly(length)
    return int(lines[0].split()[1]), "connection: close" not in head
