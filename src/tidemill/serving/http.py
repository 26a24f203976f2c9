"""The service over HTTP: raw ASGI, one function from a request to its reply."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from tidemill.errors import DataError, InputError, NotFound, TidemillError, Transient
from tidemill.serving import wire
from tidemill.serving.service import Service
from tidemill.telemetry import get_logger

log = get_logger("serving")
_LARGEST_BODY = 10_000_000
_MOST_ROWS = 10_000
_SLOWEST_BODY = 30.0
# A body up to this size is answered on the event loop: a thread's hand-over costs more than its rows.
_SMALL_BODY = 32_768
_OWN_PAGES = (b"localhost", b"127.0.0.1", b"::1")
_GET = ("/health", "/ready", "/metrics")
_PATHS = "GET /health, /ready, /metrics; POST /predict/{model}, /labels/{model}"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Reply(NamedTuple):
    """A status, a body, and the model that the request was for (empty where there is no such model)."""

    status: int
    body: bytes
    model: str = ""
    kind: bytes = b"application/json"


class App:
    """The ASGI application of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="tidemill-http")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; other protocols than HTTP are refused by the server's settings."""
        path, method = scope["path"], scope["method"]
        refusal = _refusal(method, path, scope["headers"])
        body = b"" if refusal or method != "POST" else await _body(receive)
        if body is None:
            return
        started = self._service.clock.monotonic()
        if refusal or isinstance(body, Reply):
            reply = refusal or body
        elif method == "POST" and (len(body) > _SMALL_BODY or path.startswith("/labels/")):
            reply = await asyncio.get_running_loop().run_in_executor(self._threads, self.handle, path, body)
        else:
            reply = self.handle(path, body)
        assert isinstance(reply, Reply)
        self._service.metrics.count("tidemill_requests_total", model=reply.model, status=str(reply.status))
        if path.startswith("/predict/"):
            self._service.metrics.observe(self._service.clock.monotonic() - started, reply.model)
        await _send(send, reply, close=refusal is not None or reply.status in (408, 413))

    def handle(self, path: str, body: bytes) -> Reply:
        """The reply to a request whose method and headers fit its path."""
        _, verb, *rest = path.split("/", 2)
        model = rest[0] if rest else ""
        known = model if model in self._service.live else ""
        try:
            match verb:
                case "predict":
                    return self._predict(model, body)
                case "labels":
                    return self._labels(model, body)
                case "metrics":
                    text = self._service.metrics.text()
                    return Reply(200, text.encode(), kind=b"text/plain; version=0.0.4; charset=utf-8")
                case "ready":
                    ready, state = wire.state(self._service)
                    return Reply(200 if ready else 503, msgspec.json.encode(state))
                case _:
                    return Reply(200, b'{"alive":true}')
        except TidemillError as wrong:
            if wrong.__cause__ is not None:
                log.error("a request for %s failed", model, exc_info=wrong.__cause__)
            return _error(_status(wrong), wrong.problem, wrong.cure, known)
        except Exception:
            log.exception("a request for %s failed", model)
            return _error(500, "something went wrong inside the service", "see the service's log", known)

    def _predict(self, model: str, body: bytes) -> Reply:
        live = self._service.route_of(model)
        rows = wire.rows_of(body)
        if len(rows) > _MOST_ROWS:
            return _too_many(len(rows), "rows", model)
        if not rows:
            empty = {"model": model, "release": live.arms[live.champion].label, "predictions": []}
            return Reply(200, msgspec.json.encode(empty), model)
        return Reply(200, msgspec.json.encode(wire.reply(self._service.ask(model, rows))), model)

    def _labels(self, model: str, body: bytes) -> Reply:
        live = self._service.route_of(model)
        labels = wire.labels_of(body)
        if len(labels) > _MOST_ROWS:
            return _too_many(len(labels), "labels", model)
        accepted = self._service.labels(model, wire.label_frame(labels, live.manifest)) if labels else 0
        return Reply(200, msgspec.json.encode({"accepted": accepted}), model)


def _refusal(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Reply | None:
    """The reply to a request that is refused before its body is read."""
    posts = path.startswith(("/predict/", "/labels/"))
    if not posts and path not in _GET:
        return _error(404, f"there is no path {path[:200]}", f"the paths are: {_PATHS}")
    if posts != (method == "POST") or method not in ("GET", "HEAD", "POST"):
        return _error(405, f"{path[:200]} does not take {method}", f"use {'POST' if posts else 'GET'}")
    if not posts:
        return None
    given = dict(headers)
    length = given.get(b"content-length", b"0")
    if length.isdigit() and int(length) > _LARGEST_BODY:
        return _too_large()
    # A browser names the page that sends: a forged label of a strange page could promote a model.
    if (origin := given.get(b"origin")) and urlsplit(origin).hostname not in _OWN_PAGES:
        return _error(
            403, "the request comes from a web page of another origin", "send it from a program, or by a proxy"
        )
    if given.get(b"content-encoding", b"identity") != b"identity":
        return _error(415, "the request is compressed", "send it uncompressed")
    return None


async def _body(receive: Receive) -> bytes | Reply | None:
    """The whole body, a refusal, or None where the client went away."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole if len(whole) <= _LARGEST_BODY else _too_large()
    parts, size = [], 0
    try:
        async with asyncio.timeout(_SLOWEST_BODY):
            while message["type"] == "http.request":
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > _LARGEST_BODY:
                    return _too_large()
                if not message.get("more_body"):
                    return b"".join(parts)
                message = await receive()
    except TimeoutError:
        return _error(408, f"the request took longer than {_SLOWEST_BODY:.0f} s to arrive", "send it at once")
    return None


async def _send(send: Send, reply: Reply, *, close: bool) -> None:
    headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body))]
    if reply.status == 405:
        headers.append((b"allow", b"POST" if b"use POST" in reply.body else b"GET, HEAD"))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _status(wrong: TidemillError) -> int:
    by_kind = ((NotFound, 404), (DataError, 422), (InputError, 400), (Transient, 503))
    return next((status for kind, status in by_kind if isinstance(wrong, kind)), 500)


def _error(status: int, problem: str, cure: str, model: str = "") -> Reply:
    return Reply(status, msgspec.json.encode({"error": problem, "cure": cure}), model)


def _too_large() -> Reply:
    return _error(413, f"the request is larger than {_LARGEST_BODY:,} bytes", "send the rows in several requests")


def _too_many(number: int, what: str, model: str) -> Reply:
    return _error(413, f"there are {number:,} {what} in one request", f"send at most {_MOST_ROWS:,} at once", model)
