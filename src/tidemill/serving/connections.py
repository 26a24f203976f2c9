"""Connections of a server: HTTP/1.1 with limits of size and of time, and a bound that leaves descriptors for files."""

import asyncio
import resource
from collections.abc import Callable, Collection
from typing import Any

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

MAX_HEADERS = 100
MAX_HEAD_BYTES = 32_768
MAX_URL_BYTES = 8_192
HEAD_SECONDS = 10.0
_STALLED_SECONDS = 30.0
_KEEP_ALIVE_SECONDS = 75.0
_LEAST_CONNECTIONS = 64
_RESERVED_DESCRIPTORS = 512
_DRAIN_SECONDS = 5.0
_UPGRADE_HEADERS = (b"upgrade", b"http2-settings", b"connection")


class Connections:
    """All connections of a server, in the order in which they would be closed if there are too many.

    `starting` are connections whose TLS is not ready, `fresh` those that never sent a whole request, and `idle` those
    whose next request is not complete. They are in the order of the time at which they began to wait.
    """

    def __init__(self, most: int, open_connections: Collection[Any]) -> None:
        self.most = most
        self._open = open_connections
        self.starting: dict[asyncio.Task[None], float] = {}
        self.fresh: dict[LimitedProtocol, float] = {}
        self.idle: dict[LimitedProtocol, float] = {}
        self.stalled: dict[LimitedProtocol, float] = {}
        self.is_draining = False

    @property
    def is_full(self) -> bool:
        """Return whether there is no room for another connection."""
        return len(self._open) + len(self.starting) >= self.most

    def make_room(self) -> bool:
        """Close the connection that has waited longest for its client; return False if none waits."""
        task, protocol = next(iter(self.starting), None), next(iter(self.fresh), None)
        if task and (protocol is None or self.starting[task] < self.fresh[protocol]):
            del self.starting[task]
            task.cancel()
            return True
        protocol = protocol or next(iter(self.idle), None)
        if protocol is not None:
            protocol.abort()
        return protocol is not None

    def sweep(self, now: float) -> None:
        """Close connections whose clients take too long."""
        for protocol, since in list(self.fresh.items()) + list(self.idle.items()):
            protocol.check_time(now - since)
        for protocol, since in list(self.stalled.items()):
            if now - since > _STALLED_SECONDS:
                protocol.abort()


def find_most_connections() -> int:
    """Raise the limit of descriptors as far as allowed; return how many connections leave enough of them for files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (ValueError, OSError):
            pass
    soft = 65_536 if soft == resource.RLIM_INFINITY else min(soft, 65_536)
    return max(_LEAST_CONNECTIONS, soft - min(_RESERVED_DESCRIPTORS, soft // 2))


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of uvicorn, with limits; requests to change to another protocol are answered as HTTP/1.1.

    `refused` is called with the status of each request that is refused here, before the application sees it.
    """

    def __init__(
        self, config: uvicorn.Config, state: ServerState, connections: Connections, refused: Callable[[int], None]
    ) -> None:
        super().__init__(config, state, {})
        self._known = connections
        self._refused_status = refused
        self._complete = 0
        self._begun = False
        self._in_head = True
        self._head_bytes = 0
        self._asks_for_upgrade = False
        self._problem: tuple[int, str, str] | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._known.fresh[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._known.stalled.pop(self, None)
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio keeps the connection for True
        """Keep the connection for the reply if the client sent a whole request and closed only its side."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body or self.scheme == "https":
            return None
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._is_refused:
            return
        if not self._begun:
            self._begun = True
            self._wait()
        self._head_bytes += len(data)
        self._feed(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self._is_refused and self.parser is not None:
            self._refuse(431, "the headers are too large", f"send at most {MAX_HEAD_BYTES:,} bytes of headers")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._continue_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            status, problem, cure = self._problem or (400, "the request is not valid HTTP", "send HTTP/1.1")
            self._refuse(status, problem, cure)

    def _continue_without_upgrade(self, rest: bytes) -> None:
        """Parse a request again without its headers about another protocol: the parser took its body for that one."""
        self._asks_for_upgrade = False
        lines = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in _UPGRADE_HEADERS:
                lines += [name, b": ", value, b"\r\n"]
            elif name == b"connection" and b"close" in value.lower():
                lines.append(b"connection: close\r\n")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"".join((*lines, b"\r\n", rest)))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        if not self._begun:  # it came with the end of the request before it
            self._begun = True
            self._wait()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._problem = 414, "the address is too long", f"send at most {MAX_URL_BYTES:,} bytes"
            raise ValueError

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._problem = 431, "the request has too many headers", f"send at most {MAX_HEADERS}"
            raise ValueError
        if len(name) + len(value) > MAX_HEAD_BYTES:
            self._problem = 431, "the headers are too large", f"send at most {MAX_HEAD_BYTES:,} bytes of headers"
            raise ValueError

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.get_method() == b"CONNECT":
            self._problem = 405, "the service does not accept CONNECT", "use GET or POST"
            raise ValueError
        if self.parser.should_upgrade():
            self._asks_for_upgrade = True
            return
        super().on_headers_complete()
        if self._known.is_draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if self._asks_for_upgrade:
            return
        self._complete += 1
        self._forget()
        self._begun = False
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline and not self._begun:
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._known.stalled[self] = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._known.stalled.pop(self, None)

    def shutdown(self) -> None:
        """Prepare the end: the reply of an open request closes the connection; the server closes idle connections."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    @property
    def is_quiet(self) -> bool:
        """Return whether no request is open or was begun."""
        return not self._begun and (self.cycle is None or self.cycle.response_complete) and not self.pipeline

    def close_quietly(self) -> None:
        """Close the connection after what was written is sent."""
        self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._forget()
        self._is_refused = True
        self.transport.abort()

    def check_time(self, waited: float) -> None:
        """Close the connection if its client takes too long for the head of a request."""
        if self.transport.is_closing():
            self._forget()
        elif not self._begun:
            if waited > (_KEEP_ALIVE_SECONDS if self._complete else HEAD_SECONDS):
                self._forget()
                self.transport.close()
        elif self._known.is_draining and waited > _DRAIN_SECONDS:
            self.abort()
        elif self._in_head and waited > HEAD_SECONDS:
            self._refuse(408, f"the request took longer than {HEAD_SECONDS:.0f} s to arrive", "send it without a pause")

    def _wait(self) -> None:
        self._forget()
        (self._known.idle if self._complete else self._known.fresh)[self] = self.loop.time()

    def _forget(self) -> None:
        self._known.fresh.pop(self, None)
        self._known.idle.pop(self, None)

    def _refuse(self, status: int, problem: str, cure: str) -> None:
        """Answer what is no acceptable request, after the replies to the requests before it, and close."""
        self._is_refused = True
        self._forget()
        self._refused_status(status)
        self.pipeline.clear()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                cycle.keep_alive = False  # its reply is the last one
                return
            cycle.disconnected = True  # its own body is not valid
            cycle.message_event.set()
        if self.transport.is_closing():
            return
        body = msgspec.json.encode({"error": problem, "cure": cure})
        head: list[Any] = [STATUS_LINE[status], b"content-type: application/json\r\nconnection: close\r\n"]
        head.append(b"content-length: %d\r\n\r\n" % len(body))
        self.transport.write(b"".join((*head, body)))
        # What the client still sends is dropped for a moment: closing at once would reset the connection.
        self.loop.call_later(1.0, self.transport.close)
