"""Runs the service on a workspace: listens, refreshes the routes, and stops without losing a prediction."""

import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Container, Mapping
from typing import Any

from tidemill.access.certificates import open_certificate
from tidemill.access.control import AccessControl
from tidemill.access.exposure import Exposure, check_exposure, require_tokens
from tidemill.clock import Clock
from tidemill.core.model import Model
from tidemill.core.policy import JournalPolicy, Shutdown
from tidemill.core.serving import DEFAULT_SERVING, Serving
from tidemill.core.signing import PackageSigner
from tidemill.errors import InputError, TidemillError
from tidemill.featurestore.lookup import Lookup
from tidemill.models.predictions import Predictor
from tidemill.serving.buffer import JournalBuffer
from tidemill.serving.fence import Fence
from tidemill.serving.fenced import LOAD_SECONDS, Incident
from tidemill.serving.http import ServiceApp
from tidemill.serving.keeper import JournalKeeper
from tidemill.serving.listener import Listener
from tidemill.serving.metrics import ServiceMetrics
from tidemill.serving.service import Service
from tidemill.telemetry import get_logger
from tidemill.workspace.workspace import Workspace

log = get_logger("serving")
_REFRESH = 0.3
_LOAD_SECONDS = 30.0
_ON_LOOPBACK = Exposure()
_JOURNAL = JournalPolicy()
_SHUTDOWN = Shutdown()


class HttpServer:
    """The prediction service of a workspace, in its own threads: `start` returns when it listens at `address`.

    Requests for the `strict` models must fit. The address of `exposure` must be protected as `check_exposure` requires.
    The `signer` verifies packages before they are loaded. `settings` are those of models in the policy. `hosts` are
    the host names that are accepted besides addresses and local names. `report` is called when the process of a model
    was ended. A private server listens on loopback until it is published. `shutdown` limits the time of `stop`.

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
        settings: Mapping[str, Serving] | None = None,
        hosts: Collection[str] = (),
        report: Callable[[Incident], None] | None = None,
        journal: JournalPolicy = _JOURNAL,
        shutdown: Shutdown = _SHUTDOWN,
        *,
        is_private: bool = False,
    ) -> None:
        check_exposure(exposure)
        self.control = AccessControl(workspace.board, clock, workspace.environment, required=exposure.needs_tokens)
        self._refresh_tokens()
        require_tokens(exposure, has_tokens=self.control.has_tokens)
        self._socket = _listen("127.0.0.1" if is_private else exposure.host, port)
        self.address = exposure.format_address(self._socket)
        metrics = ServiceMetrics()
        self._settings = settings or {}
        self._shutdown = shutdown
        self._report, self._metrics = report, metrics
        self._fence = Fence(self._note_incident)
        self._buffer = JournalBuffer.open(workspace.journal, metrics, journal)
        self._keeper = JournalKeeper(workspace.journal, metrics)
        self._reported_losses = 0
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
            loader=self._load_package,
        )
        self._exposure = exposure
        # Every request to a public address needs a token, so a foreign host name gains nothing.
        self._certificate = open_certificate(exposure)
        known_hosts = None if exposure.needs_tokens else hosts
        self._app = ServiceApp(self.service, self.control, known_hosts, self._certificate)
        self._server = self._create_server(self._socket)
        self._public: _PublicServer | None = None
        self._stopping = threading.Event()
        self._stop_lock, self._is_stopped = threading.Lock(), False
        self._threads = [
            threading.Thread(target=self._server.run, name="tidemill-http", daemon=True),
            threading.Thread(target=self._refresh_routes, name="tidemill-routes", daemon=True),
        ]

    @property
    def is_running(self) -> bool:
        """Return whether the server's thread is running."""
        return self._threads[0].is_alive()

    def start(self) -> None:
        """Start to serve requests, and load the routes: until a model is loaded, its requests get 503.

        A model that takes long to load does not delay the others: it is loaded in the background.
        """
        self._buffer.start()
        self._keeper.start()
        self._threads[0].start()
        while not self._server.started:
            if not self.is_running:
                self.stop()
                raise TidemillError("the HTTP server did not start", "see the log")
            time.sleep(0.005)
        self.refresh(0.0)
        began = time.monotonic()
        while self.service.loading and not self._stopping.is_set():
            # A model that is alone has nobody who could wait for it.
            if time.monotonic() - began > (_LOAD_SECONDS if self.service.routes else LOAD_SECONDS):
                break
            time.sleep(0.005)
        self._threads[1].start()

    def interrupt(self) -> None:
        """Let `start` return early; `stop` must follow."""
        self._stopping.set()

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
            self._public = _PublicServer(self._create_server(listener), self._exposure.format_address(listener))
        return self._public.address

    def stop(self) -> None:
        """Answer the requests that arrived before, and write all predictions to the journal.

        Requests that are still open after two thirds of the time are ended, with their models. A second call waits for
        the first.
        """
        with self._stop_lock:
            if not self._is_stopped:
                self._is_stopped = True
                self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._server.should_exit = True
        if self._public is not None:
            self._public.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._app.close(self._shutdown.seconds / 10)
        self._fence.close()
        self._keeper.stop()
        self._buffer.close()
        self._socket.close()

    def find_problems(self) -> dict[str, str]:
        """Return what a person must know, by subject, such as the journal; empty texts if all is well."""
        lost, self._reported_losses = self._buffer.lost - self._reported_losses, self._buffer.lost
        dropped = f"{lost} predictions were dropped: " if lost else ""
        problem = self._buffer.problem or ("the journal is written again" if lost else "")
        certificate = self._certificate
        renewal = certificate.describe_problem(self.service.clock.now()) if certificate is not None else ""
        return {"journal": dropped + problem, "journal files": self._keeper.problem, "certificate": renewal}

    def refresh(self, wait: float = _REFRESH) -> None:
        """Load changed routes and tokens now; after an error, which is logged, the earlier ones stay in force.

        A route that needs more than `wait` seconds is loaded in the background.
        """
        self._refresh_tokens()
        try:
            self.service.refresh(wait)
        except Exception:
            log.exception("the routes could not be read; the earlier routes stay in force")

    def _create_server(self, listener: socket.socket) -> Listener:
        return Listener(
            self._app,
            listener,
            self._certificate,
            refused=self._app.count_refusal,
            drain=self._shutdown.seconds * 2 / 3,
            expire=self._fence.close,
        )

    def _load_package(self, package: Model, model: str, release: str) -> Predictor:
        return self._fence.load(package, release, self._settings.get(model, DEFAULT_SERVING))

    def _note_incident(self, incident: Incident) -> None:
        self._metrics.count("tidemill_models_ended_total", release=incident.release, reason=incident.kind)
        if self._report is not None:
            self._report(incident)

    def _refresh_tokens(self) -> None:
        try:
            self.control.refresh()
        except Exception:
            log.exception("the tokens could not be read; the earlier tokens stay in force")

    def _refresh_routes(self) -> None:
        while not self._stopping.wait(_REFRESH):
            self.refresh()


class _PublicServer:
    """A further address of a service, in a thread of its own."""

    def __init__(self, server: Listener, address: str) -> None:
        self.address = address
        self._server = server
        self._thread = threading.Thread(target=server.run, name="tidemill-public", daemon=True)
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.005)

    def stop(self) -> None:
        """Answer the requests that arrived before."""
        self._server.should_exit = True
        self._thread.join()


def serve(
    workspace: Workspace,
    clock: Clock,
    exposure: Exposure = _ON_LOOPBACK,
    port: int = 8000,
    ready: Callable[[str], Any] | None = None,
    strict: Container[str] = (),
    signer: PackageSigner | None = None,
    settings: Mapping[str, Serving] | None = None,
    hosts: Collection[str] = (),
    report: Callable[[Incident], None] | None = None,
    journal: JournalPolicy = _JOURNAL,
    started: Callable[[HttpServer], Any] | None = None,
    shutdown: Shutdown = _SHUTDOWN,
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

    server = HttpServer(workspace, clock, exposure, port, strict, signer, settings, hosts, report, journal, shutdown)

    def stop(*_: object) -> None:
        end_after(shutdown.seconds)
        server.interrupt()
        stopping.set()

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        if started is not None:
            started(server)
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


def end_after(seconds: float) -> None:
    """End this process after some seconds, if it has not ended by itself."""

    def end() -> None:
        log.critical("the process did not stop within %g s: it is ended now", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


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
