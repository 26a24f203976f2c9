"""Runs the service on a workspace: listens, refreshes the routes, and stops without losing a prediction."""

import errno
import signal
import socket
import threading
import time
from collections.abc import Callable, Container
from typing import Any

import uvicorn

from tidemill.access.control import AccessControl
from tidemill.access.exposure import Exposure, check_exposure, require_tokens
from tidemill.clock import Clock
from tidemill.core.signing import PackageSigner
from tidemill.errors import InputError, TidemillError
from tidemill.featurestore.lookup import Lookup
from tidemill.serving.buffer import JournalBuffer
from tidemill.serving.http import ServiceApp
from tidemill.serving.metrics import ServiceMetrics
from tidemill.serving.service import Service
from tidemill.telemetry import get_logger
from tidemill.workspace.workspace import Workspace

log = get_logger("serving")
_REFRESH = 0.3
_DRAIN = 30
_ON_LOOPBACK = Exposure()


class HttpServer:
    """The prediction service of a workspace, in its own threads: `start` returns when it listens at `address`.

    Requests for the `strict` models must fit. The address of `exposure` must be protected as `check_exposure` requires.
    The `signer` verifies packages before they are loaded.

    Raises
    ------
    InputError
        if the address is not protected or in use, or if it needs tokens and there is none.
    """

    def __init__(
        self,
        workspace: Workspace,
        clock: Clock,
        exposure: Exposure = _ON_LOOPBACK,
        port: int = 8000,
        strict: Container[str] = (),
        signer: PackageSigner | None = None,
    ) -> None:
        check_exposure(exposure)
        self.control = AccessControl(workspace.board, clock, workspace.environment, required=exposure.needs_tokens)
        self._refresh_tokens()
        require_tokens(exposure, has_tokens=self.control.has_tokens)
        self._socket = _listen(exposure.host, port)
        self.address = exposure.format_address(self._socket)
        metrics = ServiceMetrics()
        self._buffer = JournalBuffer(workspace.journal, metrics)
        self.service = Service(
            workspace.board,
            workspace.packages,
            workspace.journal,
            Lookup(workspace.online),
            clock,
            predictions=self._buffer,
            metrics=metrics,
            strict=strict,
            signer=signer,
        )
        self._exposure = exposure
        self._app = ServiceApp(self.service, self.control)
        self._server = _create_server(self._app, exposure)
        self._public: _Listener | None = None
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.run, args=([self._socket],), name="tidemill-http", daemon=True),
            threading.Thread(target=self._refresh_routes, name="tidemill-routes", daemon=True),
        ]

    @property
    def is_running(self) -> bool:
        """Return whether the server's thread is running."""
        return self._threads[0].is_alive()

    def start(self) -> None:
        """Load the routes, and start to serve requests."""
        self.refresh()
        self._buffer.start()
        for thread in self._threads:
            thread.start()
        while not self._server.started:
            if not self.is_running:
                self.stop()
                raise TidemillError("the HTTP server did not start", "see the log")
            time.sleep(0.005)

    def test(self) -> None:
        """Write no predictions to the journal until `publish` is called: the service is only being tested."""
        self._buffer.is_open = False

    def publish(self, port: int) -> str:
        """Also listen on a port that the service before this one may still use; return the address.

        Both get new connections until the other service stops, so that no request is refused in between.

        Raises
        ------
        InputError
            if the port is used by another program.
        """
        if self._public is None:
            listener = _listen(self._exposure.host, port, shared=True)
            self._buffer.is_open = True
            server = _create_server(self._app, self._exposure)
            self._public = _Listener(listener, server, self._exposure.format_address(listener))
        return self._public.address

    def stop(self) -> None:
        """Refuse new connections, finish open requests, and write all predictions to the journal."""
        self._stopping.set()
        self._server.should_exit = True
        if self._public is not None:
            self._public.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._buffer.close()
        self._socket.close()

    def refresh(self) -> None:
        """Load changed routes and tokens now; after an error, which is logged, the earlier ones stay in force."""
        self._refresh_tokens()
        try:
            self.service.refresh()
        except Exception:
            log.exception("the routes could not be read; the earlier routes stay in force")

    def _refresh_tokens(self) -> None:
        try:
            self.control.refresh()
        except Exception:
            log.exception("the tokens could not be read; the earlier tokens stay in force")

    def _refresh_routes(self) -> None:
        while not self._stopping.wait(_REFRESH):
            self.refresh()


def _create_server(app: ServiceApp, exposure: Exposure) -> uvicorn.Server:
    return uvicorn.Server(
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
            timeout_graceful_shutdown=_DRAIN,
            ssl_certfile=exposure.tls_cert,
            ssl_keyfile=exposure.tls_key,
        )
    )


class _Listener:
    """A further address of a service, in a thread of its own."""

    def __init__(self, listener: socket.socket, server: uvicorn.Server, address: str) -> None:
        self.address = address
        self._socket, self._server = listener, server
        self._thread = threading.Thread(target=server.run, args=([listener],), name="tidemill-public", daemon=True)
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.005)

    def stop(self) -> None:
        """Refuse new connections and finish open requests."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def serve(
    workspace: Workspace,
    clock: Clock,
    exposure: Exposure = _ON_LOOPBACK,
    port: int = 8000,
    ready: Callable[[str], Any] | None = None,
    strict: Container[str] = (),
    signer: PackageSigner | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; call `ready` with the address once the service listens. For the main thread.

    Raises
    ------
    InputError
        if the address is not protected or in use, or if it needs tokens and there is none.
    TidemillError
        if the server stops without a signal.
    """
    stopping = threading.Event()
    server = HttpServer(workspace, clock, exposure, port, strict, signer)
    handlers = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        if ready is not None:
            ready(server.address)
        while server.is_running and not stopping.wait(1):
            pass
        if not stopping.is_set():
            raise TidemillError("the HTTP server stopped without a signal", "see the log, and start it again")
    finally:
        server.stop()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens; a `shared` port can be used by several services of the same user."""
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((address, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} on {host} is in use",
                f"stop the process on that port, or use another port: --port {port + 1}",
            ) from None
        raise InputError(f"port {port} on {host} cannot be opened: {error}", "use another port: --port 8000") from None
    return listener
