"""Runs the service: opens it on a workspace, listens, keeps its routes fresh, and ends without losing an answer."""

import errno
import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from tidemill.clock import Clock
from tidemill.errors import InputError, TidemillError
from tidemill.featurestore.lookup import Lookup
from tidemill.serving.buffer import Buffer
from tidemill.serving.http import App
from tidemill.serving.metrics import Metrics
from tidemill.serving.service import Service
from tidemill.telemetry import get_logger
from tidemill.workspace.workspace import Workspace

log = get_logger("serving")
_REFRESH = 0.3
_DRAIN = 30


class HttpServer:
    """The prediction service of a workspace, in threads of its own: `start` returns when it answers at `address`.

    Raises
    ------
    InputError
        if the address is not on loopback, or in use.
    """

    def __init__(self, workspace: Workspace, clock: Clock, host: str = "127.0.0.1", port: int = 8000) -> None:
        self._socket = _listen(host, port)
        bound, number = self._socket.getsockname()[:2]
        self.address = f"http://[{bound}]:{number}" if ":" in bound else f"http://{bound}:{number}"
        metrics = Metrics()
        self._buffer = Buffer(workspace.journal, metrics)
        self.service = Service(
            workspace.board,
            workspace.packages,
            workspace.journal,
            Lookup(workspace.online),
            clock,
            predictions=self._buffer,
            metrics=metrics,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                App(self.service),
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
                timeout_graceful_shutdown=_DRAIN,
            )
        )
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.run, args=([self._socket],), name="tidemill-http", daemon=True),
            threading.Thread(target=self._keep_fresh, name="tidemill-routes", daemon=True),
        ]

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._threads[0].is_alive()

    def start(self) -> None:
        """Load what is routed, and answer from then on."""
        self.refresh()
        self._buffer.start()
        for thread in self._threads:
            thread.start()
        while not self._server.started:
            if not self.alive:
                self.stop()
                raise TidemillError("the HTTP server did not start", "see the log")
            time.sleep(0.005)

    def stop(self) -> None:
        """Take no new connection, finish open requests, and write all answers to the journal."""
        self._stopping.set()
        self._server.should_exit = True
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._buffer.close()
        self._socket.close()

    def refresh(self) -> None:
        """Take up changed routes now; what goes wrong is logged, and what was in force stays."""
        try:
            self.service.refresh()
        except Exception:
            log.exception("the routes could not be read; those in force stay")

    def _keep_fresh(self) -> None:
        while not self._stopping.wait(_REFRESH):
            self.refresh()


def serve(
    workspace: Workspace,
    clock: Clock,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Callable[[str], Any] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the address once it answers. For the main thread.

    Raises
    ------
    InputError
        if the address is not on loopback, or in use.
    TidemillError
        if the server ends by itself.
    """
    asked = threading.Event()
    server = HttpServer(workspace, clock, host, port)
    before = {each: signal.signal(each, lambda *_: asked.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        if ready is not None:
            ready(server.address)
        while server.alive and not asked.wait(1):
            pass
        if not asked.is_set():
            raise TidemillError("the HTTP server ended by itself", "see the log, and start it again")
    finally:
        server.stop()
        for each, handler in before.items():
            signal.signal(each, handler)


def _listen(host: str, port: int) -> socket.socket:
    if not _is_loopback(host):
        raise InputError(
            f"the service does not listen on {host}: it has no tokens and no TLS yet, so anyone there could use it",
            "listen on 127.0.0.1 and put a proxy before it that has both",
        )
    name = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((name, port))
        listening.listen(2048)
    except (OSError, OverflowError) as refused:
        listening.close()
        if isinstance(refused, OSError) and refused.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} on {host} is in use",
                f"stop what listens there, or give another: --port {port + 1}",
            ) from None
        raise InputError(f"port {port} on {host} cannot be opened: {refused}", "give another: --port 8000") from None
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
