"""The server of the web pages, in a separate thread beside the prediction service."""

import socket
import threading
from collections.abc import Callable
from functools import partial

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill.daemon.webhooks import add_webhooks
from tidemill.errors import InputError, TidemillError
from tidemill.evidence.maturity import assess
from tidemill.evidence.promises import PolicyStatus
from tidemill.flow.session import Session
from tidemill.web.app import create_app

ReadPolicies = Callable[[Session], list[PolicyStatus]]
"""Compares the policy of each model with its promise."""


class _LazyApp:
    """The pages, opened on the first request: the service can start while the ledger is not available."""

    def __init__(self, session: Session, read_policies: ReadPolicies | None) -> None:
        self._session = session
        self._read_policies = partial(read_policies, session) if read_policies else None
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            workspace, name = self._session.workspace, self._session.project.name
            try:
                books = await run_in_threadpool(lambda: workspace.ledger)
            except TidemillError as unavailable:
                await PlainTextResponse(str(unavailable), 503)(scope, receive, send)
                return
            self._app = create_app(
                books,
                workspace.board,
                name,
                workspace.environment,
                packages=workspace.packages,
                read_policies=self._read_policies,
                read_maturity=partial(assess, books, self._session.project.policy, workspace.environment),
            )
        await self._app(scope, receive, send)


class Pages:
    """The server of the pages at `address`, on the loopback interface only.

    Raises
    ------
    InputError
        if the port is in use.
    """

    def __init__(self, session: Session, port: int, read_policies: ReadPolicies | None = None) -> None:
        app = add_webhooks(session, _LazyApp(session, read_policies))
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
            self._socket.listen()  # a request before the server runs waits for it
        except (OSError, OverflowError):
            self._socket.close()
            raise InputError(f"port {port} for the pages is in use", "choose another port: --pages-port PORT") from None
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="pages", daemon=True
        )

    def start(self) -> None:
        """Start to serve requests."""
        self._thread.start()

    def stop(self) -> None:
        """Finish open requests, then stop."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
