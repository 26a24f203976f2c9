"""The HTTP application of the service: raw ASGI, one function from a request to its reply."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec

from tidemill.access.certificates import Certificate
from tidemill.access.control import AccessControl
from tidemill.access.origins import find_refused_host, find_refused_origin
from tidemill.errors import AccessDenied, DataError, InputError, NotFound, TidemillError, TimedOut, Transient
from tidemill.models.usage import DEFAULT_ADDRESS, describe_usage
from tidemill.serving import wire
from tidemill.serving.lanes import Lanes, ShadowQueue
from tidemill.serving.openapi import describe_routes
from tidemill.serving.routes import PATHS, find_route, list_methods
from tidemill.serving.service import Service
from tidemill.telemetry import get_logger

log = get_logger("serving")
_MAX_BODY = 10_000_000
_MAX_ROWS = 10_000
_BODY_SECONDS = 30.0
# A body up to this size is handled on the event loop: a change of thread takes longer than its rows.
_SMALL_BODY = 32_768
# What all bodies that are being received may contain together.
_MAX_BUFFERED = 256_000_000
# After an early reply, the rest of a body is read and dropped: closing the connection at once would reset it, and the
# client would lose the reply.
_LINGER_SECONDS = 10.0
_LINGER_BYTES = 200_000_000

AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]


class Reply(NamedTuple):
    """A status, a body, and the model that the request was for (empty if there is no such model).

    It is sent when all futures in `recorded` are done: then its predictions are on the disk.
    `shadows` are asked after the reply. `unread` is unset in the reply to a request whose body was read to its end.
    """

    status: int
    body: bytes
    model: str = ""
    kind: bytes = b"application/json"
    shadows: Callable[[], None] | None = None
    unread: bool = True
    recorded: "tuple[Future[None], ...]" = ()


class ServiceApp:
    """The ASGI application of a service; `control` decides which requests need a token.

    `hosts` are the host names that are accepted besides addresses and local names; None accepts every name. `/ready`
    names the problem of a renewed `certificate`.
    """

    def __init__(
        self,
        service: Service,
        control: AccessControl,
        hosts: Collection[str] | None = (),
        certificate: Certificate | None = None,
    ) -> None:
        self._certificate = certificate
        self._service = service
        self._control = control
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._lanes = Lanes()
        self._shadows = ShadowQueue(service.metrics)
        self._buffered = 0

    async def __call__(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """Handle one request; the server's settings refuse every protocol except HTTP."""
        path, method = scope["path"], scope["method"]
        sent = dict(scope["headers"])
        refusal = _refuse_early(scope, sent, self._control, self._hosts)
        body = b"" if refusal or method != "POST" else await self._read_body(receive)
        if body is None:
            return
        started = self._service.clock.monotonic()
        if refusal or isinstance(body, Reply):
            reply = refusal or body
        elif method == "POST" and (lane := self._find_lane(path, body)) is not None:
            reply = await self._lanes.run(lane, self.handle, path, body)
        elif method != "POST" and path.startswith("/predict/"):
            host = sent.get(b"host", b"").decode("latin-1")
            reply = self.handle(path, body, describe_for=f"{scope['scheme']}://{host}" if host else DEFAULT_ADDRESS)
        else:
            reply = self.handle(path, body)
        assert isinstance(reply, Reply)
        if reply.recorded:
            reply = await _wait_until_recorded(reply)
        self._service.metrics.count("tidemill_requests_total", model=reply.model, status=str(reply.status))
        if path.startswith("/predict/") and method == "POST":
            self._service.metrics.observe(self._service.clock.monotonic() - started, reply.model)
        if refusal is not None or isinstance(body, Reply):
            await _send_and_close(send, receive, reply, unread=reply.unread and b"expect" not in sent)
        else:
            await _send(send, reply)
        if reply.shadows is not None:
            self._shadows.add(reply.model, reply.shadows)

    def count_refusal(self, status: int) -> None:
        """Count a request that was refused before it was complete."""
        self._service.metrics.count("tidemill_requests_total", model="", status=str(status))

    def close(self, seconds: float) -> None:
        """Ask the shadows what waits for them, for at most so many seconds."""
        self._shadows.close(seconds)
        self._lanes.close()

    def _find_lane(self, path: str, body: bytes) -> str | None:
        """Return the lane of threads for a request; None if it is handled at once, because that takes no time."""
        _, verb, *rest = path.split("/", 2)
        model = rest[0] if rest else ""
        route = self._service.routes.get(model)
        if route is None:
            return None if len(body) <= _SMALL_BODY else "/"
        if verb == "labels":
            return f"labels/{model}"
        return None if len(body) <= _SMALL_BODY and route.is_immediate else f"predict/{model}"

    async def _read_body(self, receive: Receive) -> bytes | Reply | None:
        """Return the whole body, an error reply, or None if the client disconnected."""
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            return body if len(body) <= _MAX_BODY else _too_large()._replace(unread=False)
        parts, size = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while message["type"] == "http.request":
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    self._buffered += len(part)
                    if size > _MAX_BODY:
                        return _too_large()._replace(unread=message.get("more_body", False))
                    if self._buffered > _MAX_BUFFERED:
                        return _error(503, "too many large requests arrive at the same time", "send it again later")
                    if not message.get("more_body"):
                        return b"".join(parts)
                    message = await receive()
        except TimeoutError:
            return _error(
                408, f"the request took longer than {_BODY_SECONDS:.0f} s to arrive", "send it without a pause"
            )._replace(unread=False)
        finally:
            self._buffered -= size
        return None

    def handle(self, path: str, body: bytes, *, describe_for: str | None = None) -> Reply:
        """Return the reply to a request whose method and headers fit its path.

        `describe_for` is the address in a request for the description of a model: GET in place of POST.
        """
        _, verb, *rest = path.split("/", 2)
        model = rest[0] if rest else ""
        known = model if model in self._service.routes else ""
        try:
            match verb:
                case "predict" if describe_for is not None:
                    return self._describe(model, describe_for)
                case "predict":
                    return self._predict(model, body)
                case "labels":
                    return self._labels(model, body)
                case "metrics":
                    text = self._service.metrics.text()
                    return Reply(200, text.encode(), kind=b"text/plain; version=0.0.4; charset=utf-8")
                case "openapi.json":
                    return Reply(200, msgspec.json.encode(describe_routes()))
                case "ready":
                    ready, readiness = wire.describe_readiness(self._service)
                    if problem := self._describe_certificate():
                        readiness["certificate"] = problem  # the certificate is served: it is ready
                    return Reply(200 if ready else 503, msgspec.json.encode(readiness))
                case _:
                    return Reply(200, b'{"alive":true}')
        except Exception as error:  # noqa: BLE001 - it is logged, and the client gets a status
            return self._describe_failure(error, model, known)

    def _describe_certificate(self) -> str:
        return self._certificate.describe_problem(self._service.clock.now()) if self._certificate is not None else ""

    def _describe_failure(self, error: Exception, model: str, known: str) -> Reply:
        if _is_disk_full(error):
            log.error("a request for %s failed: the disk is full", model)
            return _error(
                507, "the disk of the service is full, nothing of the request is stored", "free some space", known
            )
        if isinstance(error, TidemillError):
            if error.__cause__ is not None:
                log.error("a request for %s failed", model, exc_info=error.__cause__)
            return _error(_find_status(error), error.problem, error.cure, known)
        log.error("a request for %s failed", model, exc_info=error)
        return _error(500, "the service failed to handle the request", "see the service's log", known)

    def _predict(self, model: str, body: bytes) -> Reply:
        route = self._service.find_route(model)
        rows = wire.parse_rows(body)
        if len(rows) > _MAX_ROWS:
            return _too_many(len(rows), "rows", model)
        if not rows:
            empty = {"model": model, "release": route.arms[route.champion].label, "predictions": []}
            return Reply(200, msgspec.json.encode(empty), model)
        result = self._service.predict_request(model, rows)
        return Reply(
            200, msgspec.json.encode(wire.format_reply(result)), model, shadows=result.shadows, recorded=result.recorded
        )

    def _describe(self, model: str, address: str) -> Reply:
        """Return the signature of the champion, and a request with one of its sample rows."""
        route = self._service.find_route(model)
        champion, key = route.arms[route.champion], route.route.key
        example = champion.loaded.example
        if key and example is not None:
            example = {**example, key: example.get(key)}
        usage = describe_usage(model, champion.label, champion.loaded.manifest, example, address)
        return Reply(200, msgspec.json.encode(usage), model)

    def _labels(self, model: str, body: bytes) -> Reply:
        route = self._service.find_route(model)
        labels = wire.parse_labels(body)
        if len(labels) > _MAX_ROWS:
            return _too_many(len(labels), "labels", model)
        if not labels:
            return Reply(200, msgspec.json.encode({"accepted": 0}), model)
        frame = wire.to_label_frame(labels, route.manifest)
        accepted, warnings = self._service.add_labels(model, frame), wire.list_label_warnings(frame)
        reply = {"accepted": accepted} | ({"warnings": warnings} if warnings else {})
        return Reply(200, msgspec.json.encode(reply), model)


def _refuse_early(
    scope: AsgiMessage, sent: dict[bytes, bytes], control: AccessControl, hosts: Collection[str] | None
) -> Reply | None:
    """Return the error reply to a request that is refused before its body is read; None otherwise."""
    method, path = scope["method"], scope["path"]
    named = [value for name, value in scope["headers"] if name == b"host"]
    if problem := find_refused_host(named, scope["http_version"], hosts):
        return _error(400, problem, "send the address of the service, or add the name to `hosts` of the environment")
    route = find_route(method, path)
    if route is None:
        methods = list_methods(path)
        if not methods:
            return _error(404, f"there is no path {path[:200]}", f"the paths are: {PATHS}")
        return _error(405, f"{path[:200]} does not accept {method}", f"use {methods[-1]}")
    try:
        admitted = None if route.allowed is None else control.admit(sent.get(b"authorization"), route.allowed)
    except AccessDenied as denied:
        return _error(denied.status, denied.problem, denied.cure)
    if route.method != "POST":
        return None
    length = sent.get(b"content-length", b"0")
    if length.isdigit() and int(length) > _MAX_BODY:
        return _too_large()
    # A browser names the page that sends a request: a forged label from a foreign page could promote a model. A page
    # that sends a valid token is not foreign.
    if b"origin" in sent:
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        problem = find_refused_origin(origins, sent.get(b"host", b""), scope["scheme"])
        if problem and (not admitted or "Origin" in problem):
            return _error(403, problem, "send it from a program, or through a proxy")
    if sent.get(b"content-encoding", b"identity") != b"identity":
        return _error(415, "the request is compressed", "send it uncompressed")
    return None


async def _wait_until_recorded(reply: Reply) -> Reply:
    """Return the reply when its predictions are on the disk, or an error reply."""
    try:
        for future in reply.recorded:
            await asyncio.wrap_future(future)
    except TidemillError as refused:
        return _error(507, refused.problem, refused.cure, reply.model)
    return reply


async def _send(send: Send, reply: Reply, *, close: bool = False, more: bool = False) -> None:
    headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body))]
    if reply.status == 405:
        headers.append((b"allow", b"POST" if b"use POST" in reply.body else b"GET, HEAD"))
    elif reply.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    elif reply.status == 503:
        headers.append((b"retry-after", b"1"))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": more})


async def _send_and_close(send: Send, receive: Receive, reply: Reply, *, unread: bool) -> None:
    """Send a reply before the whole request was read; then read the rest and close the connection."""
    await _send(send, reply, close=True, more=True)
    received, more = 0, unread
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while more and received < _LINGER_BYTES:
                message = await receive()
                received += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):  # libraries of other languages raise errors of their own
            return True
        error = error.__cause__ or error.__context__
    return False


def _find_status(error: TidemillError) -> int:
    by_kind = ((NotFound, 404), (DataError, 422), (InputError, 400), (TimedOut, 504), (Transient, 503))
    return next((status for kind, status in by_kind if isinstance(error, kind)), 500)


def _error(status: int, problem: str, cure: str, model: str = "") -> Reply:
    return Reply(status, msgspec.json.encode({"error": problem, "cure": cure}), model)


def _too_large() -> Reply:
    return _error(413, f"the request is larger than {_MAX_BODY:,} bytes", "send the rows in several requests")


def _too_many(count: int, items: str, model: str) -> Reply:
    return _error(413, f"the request has {count:,} {items}", f"send at most {_MAX_ROWS:,} in one request", model)
