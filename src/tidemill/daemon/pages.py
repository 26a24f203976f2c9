"""The server of the web pages, in a separate thread beside the prediction service."""

import socket
import threading
from collections.abc import Callable
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill.access.certificates import open_certificate
from tidemill.access.control import AccessControl
from tidemill.access.exposure import Exposure, check_exposure, require_tokens
from tidemill.core.deployment import EnvironmentStatus
from tidemill.core.resources import PackageStore
from tidemill.daemon.webhooks import add_webhooks
from tidemill.delivery.automation import describe_status
from tidemill.errors import InputError, TidemillError
from tidemill.evidence.heads import export_from_settings
from tidemill.evidence.maturity import assess
from tidemill.evidence.promises import PolicyStatus
from tidemill.flow.session import Session
from tidemill.serving.listener import Listener
from tidemill.telemetry import get_logger
from tidemill.web.app import create_app
from tidemill.web.decisions import Desk

log = get_logger("web")
_ON_LOOPBACK = Exposure()
_DRAIN_SECONDS = 5.0

ReadPolicies = Callable[[Session], list[PolicyStatus]]
"""Compares the policy of each model with its promise."""


class _LazyApp:
    """The pages, opened on the first request: the service can start while the ledger is not available."""

    def __init__(
        self, session: Session, read_policies: ReadPolicies | None, control: AccessControl, exposure: Exposure
    ) -> None:
        self._session = session
        self._read_policies = partial(read_policies, session) if read_policies else None
        self._control, self._exposure = control, exposure
        self._hosts = session.project.policy.find_hosts(session.workspace.environment)
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            workspace, name = self._session.workspace, self._session.project.name
            try:
                books = await run_in_threadpool(lambda: workspace.ledger)
            except TidemillError as unavailable:
                log.error("the pages have no ledger: %s", unavailable)
                text = str(unavailable) if self._control.is_open else "the ledger is not available — see the log"
                await PlainTextResponse(text, 503)(scope, receive, send)
                return
            self._app = create_app(
                books,
                workspace.board,
                name,
                workspace.environment,
                self._control,
                # Every request to a public address needs a token, so a foreign host name gains nothing.
                hosts=None if self._exposure.needs_tokens else self._hosts,
                secure=self._exposure.has_tls or self._exposure.behind_proxy,
                packages=workspace.packages,
                read_policies=self._read_policies,
                read_maturity=partial(assess, books, self._session.project.policy, workspace.environment),
                read_environments=self._describe_environments,
                desk=self._create_desk(),
            )
        await self._app(scope, receive, send)

    def _describe_environments(self) -> list[EnvironmentStatus]:
        session = self._session
        return describe_status(session.workspace.ledger, session.project.policy, session.clock.now())

    def _create_desk(self) -> Desk:
        session, workspace = self._session, self._session.workspace
        return Desk(
            workspace.ledger,
            workspace.board,
            session.resource(PackageStore),
            session.clock,
            workspace.environment,
            session.project.model,
            partial(
                export_from_settings,
                workspace.ledger,
                session.project.name,
                session.clock,
                workspace.root,
                log.warning,
            ),
        )


class Pages:
    """The server of the pages at `address`.

    Raises
    ------
    InputError
        if the address is not protected, the port is in use, or the address needs tokens and there is none.
    """

    def __init__(
        self,
        session: Session,
        port: int,
        read_policies: ReadPolicies | None = None,
        exposure: Exposure = _ON_LOOPBACK,
    ) -> None:
        check_exposure(exposure, "the server of the pages")
        workspace = session.workspace
        control = AccessControl(workspace.board, session.clock, workspace.environment, required=exposure.needs_tokens)
        try:
            control.refresh()
        except Exception:
            log.exception("the tokens could not be read; every request is refused")
        require_tokens(exposure, has_tokens=control.has_tokens, what="the server of the pages")
        app = add_webhooks(session, _LazyApp(session, read_policies, control, exposure))
        self._clock, self._certificate = session.clock, open_certificate(exposure)
        self._socket = _listen(exposure.host, port)
        self.address = exposure.format_address(self._socket)
        self._server = Listener(app, self._socket, self._certificate, drain=_DRAIN_SECONDS)
        self._thread = threading.Thread(target=self._server.run, name="pages", daemon=True)

    def find_problems(self) -> dict[str, str]:
        """Return what a person must know, by subject; empty texts if all is well."""
        problem = self._certificate.describe_problem(self._clock.now()) if self._certificate is not None else ""
        return {"certificate of the pages": problem}

    def start(self) -> None:
        """Start to serve requests."""
        self._thread.start()

    def stop(self) -> None:
        """Finish open requests, then stop."""
        self._server.should_exit = True
        self._thread.join(timeout=10)


def _listen(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen()  # a request before the server runs waits for it
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"port {port} on {host} for the pages cannot be opened: {getattr(error, 'strerror', None) or error}",
            "choose another port: --pages-port PORT",
        ) from None
    return listener
