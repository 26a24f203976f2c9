"""Connections of a server: HTTP/1.1 with limits of size and of time, and a bound that leaves descriptors for files."""

import asyncio
import resource
from collections.abc import Callable
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


class Connections:
    """All connections of a server, in the order in which they would be closed if there are too many.

    `fresh` are connections that never sent a whole request, `idle` those whose next request is not complete; both are
    in the order of time, and have the time at which they began to wait.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self.fresh: dict[LimitedProtocol, float] = {}
        self.idle: dict[LimitedProtocol, float] = {}
        self.stalled: dict[LimitedProtocol, float] = {}
        self.is_draining = False

    def make_room(self) -> bool:
        """Close the connection that has waited longest for its client; return False if none waits."""
        for waiting in (self.fresh, self.idle):
            if waiting:
                next(iter(waiting)).abort()
                return True
        return False

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
        self._problem: tuple[int, str, str] | None = None
        self._is_refused = False
        self._is_counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._is_counted = True
        self._known.fresh[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_counted:
            self._is_counted = False
            self._known.count -= 1
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
        """Go on with HTTP/1.1 after a request that asked for another protocol, and was handled as HTTP/1.1."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if rest:
            self._feed(rest)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
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
        super().on_headers_complete()
        if self._known.is_draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
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
