"""A server of an ASGI application on a socket: it accepts within its bound, and stops without cutting a request off."""

import asyncio
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn

from tidemill.access.certificates import Certificate
from tidemill.serving.connections import Connections, LimitedProtocol, find_most_connections
from tidemill.telemetry import get_logger

log = get_logger("serving")
_HANDSHAKE_SECONDS = 10.0
_BACKLOG_SECONDS = 5.0
_QUIET_SECONDS = 0.3
_ACCEPTED_AT_ONCE = 64
_PAUSE_SECONDS = 0.05


class Listener(uvicorn.Server):
    """uvicorn's server with an accept loop of its own.

    With a `certificate`, connections use TLS; it is read again when its files change. `refused` is called with the
    status of each request that is refused before the application sees it. On `stop`, requests that arrived before are
    answered for at most `drain` seconds; then `expire` is called, which must end the open ones, and these have two more
    seconds.
    """

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        certificate: Certificate | None = None,
        *,
        refused: Callable[[int], None] = lambda _: None,
        drain: float = 20.0,
        expire: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
            )
        )
        self._listener = listener
        self._certificate = certificate
        self._refused, self._drain, self._expire = refused, drain, expire
        self._connections = Connections(find_most_connections(), self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections from now on."""
        del sockets
        self.servers = []
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        loop.add_reader(self._listener.fileno(), self._accept)
        self._sweeper = loop.call_later(1.0, self._sweep)
        self.started = True

    def _accept(self) -> bool:
        """Accept the connections that wait, up to a number; return whether there was any."""
        known, loop = self._connections, asyncio.get_running_loop()
        for number in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return number > 0
            except OSError as error:
                # Without a free descriptor, the loop would spin; the connection that waits longest makes room.
                log.warning("a connection could not be accepted: %s", error.strerror)
                if not known.make_room():
                    loop.remove_reader(self._listener.fileno())
                    loop.call_later(_PAUSE_SECONDS, self._resume)
                return False
            connection.setblocking(False)
            if known.is_full and not known.make_room():
                self._refused(503)
                with suppress(OSError):
                    connection.send(_BUSY)
                connection.close()
                continue
            task = loop.create_task(self._start(connection))
            known.starting[task] = loop.time()
            task.add_done_callback(partial(self._finish_start, connection))
        return True

    def _resume(self) -> None:
        if not self._connections.is_draining and self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    async def _start(self, connection: socket.socket) -> None:
        context = self._certificate.context if self._certificate is not None else None
        limits = {"ssl_handshake_timeout": _HANDSHAKE_SECONDS} if context is not None else {}
        make = partial(LimitedProtocol, self.config, self.server_state, self._connections, self._refused)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(make, connection, ssl=context, **limits)

    def _finish_start(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        """Close a connection whose protocol could not start, also if its task was cancelled before it ran."""
        self._connections.starting.pop(task, None)
        if task.cancelled() or task.exception() is not None:
            connection.close()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._connections.sweep(loop.time())
        if self._certificate is not None:
            loop.run_in_executor(None, self._certificate.refresh)  # a slow disk delays no request
        self._sweeper = loop.call_later(1.0, self._sweep)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what arrived before; then close the socket and all connections."""
        del sockets
        known, loop = self._connections, asyncio.get_running_loop()
        began = time.monotonic()
        known.is_draining = True
        # New connections are no longer accepted by the system; those that it accepted before are all taken.
        with suppress(OSError):
            self._listener.listen(0)
        while self._accept() and time.monotonic() - began < _BACKLOG_SECONDS:
            await asyncio.sleep(0)
        loop.remove_reader(self._listener.fileno())
        self._listener.close()
        quiet: dict[LimitedProtocol, float] = {}
        has_expired = False
        while known.starting or self.server_state.connections or self.server_state.tasks:
            now = time.monotonic()
            self._close_quiet(quiet, now)
            if now - began > self._drain and not has_expired:
                has_expired = True
                log.error("%d requests are still open at the end of the time to stop", len(self.server_state.tasks))
                self._expire()
            if now - began > self._drain + 2:
                break
            await asyncio.sleep(0.02)
        self._sweeper.cancel()
        for task in [*known.starting, *self.server_state.tasks]:
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    def _close_quiet(self, quiet: dict[LimitedProtocol, float], now: float) -> None:
        """Close the connections on which nothing came for a moment; those with an open request close by its reply."""
        for connection in list(self.server_state.connections):
            assert isinstance(connection, LimitedProtocol)
            connection.shutdown()
            if not connection.is_quiet or _has_unread_bytes(connection.transport):
                quiet.pop(connection, None)
            elif now - quiet.setdefault(connection, now) >= _QUIET_SECONDS:
                connection.close_quietly()


def _has_unread_bytes(transport: asyncio.Transport) -> bool:
    connection = transport.get_extra_info("socket")
    try:
        return bool(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.FIONREAD, b"\0" * 4))[0])
    except (OSError, AttributeError, ValueError):
        return False


_BUSY_BODY = b'{"error":"the service has too many connections","cure":"send the request again later"}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BUSY_BODY), _BUSY_BODY)
)
