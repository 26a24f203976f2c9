"""Visitors: who requests a page, by a bearer token or by the session of a login; and which pages need which role."""

import hmac
from collections.abc import Callable, Set
from typing import get_args

from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill.access.control import AccessControl, Grant
from tidemill.access.origins import find_refused_origin
from tidemill.access.roles import DECIDE, READ
from tidemill.core.token import Role
from tidemill.errors import AccessDenied, TidemillError
from tidemill.telemetry import get_logger
from tidemill.web.forms import read_form
from tidemill.web.sessions import Sessions, WebSession

log = get_logger("web")
_ANY: frozenset[Role] = frozenset(get_args(Role))
_OPEN = frozenset({("GET", "/login"), ("POST", "/login"), ("GET", "/style.css")})
_KEY = "tidemill.visitor"
_CREATE = "create one: `tidemill tokens create NAME --role approver`"


class Visitor(Struct, frozen=True):
    """Who requests a page: the token with its roles; None for everybody while no token exists.

    `csrf` is the value that a form must send, empty if the request has a bearer token and no session.
    """

    grant: Grant | None = None
    csrf: str = ""

    @property
    def name(self) -> str:
        """Return the owner of the token."""
        return self.grant.token.owner if self.grant else ""

    @property
    def may_decide(self) -> bool:
        """Return whether the visitor may approve releases and roll them back."""
        return self.grant is not None and not self.grant.roles.isdisjoint(DECIDE)


def get_visitor(request: Request) -> Visitor:
    """Return who sent a request."""
    visitor: Visitor = request.scope.get(_KEY, Visitor())
    return visitor


def find_allowed(method: str, path: str) -> Set[Role] | None:
    """Return the roles that may send a request, None for everybody; what is not listed here needs a role."""
    method = "GET" if method == "HEAD" else method
    if (method, path) in _OPEN:
        return None
    if method == "GET":
        return READ
    return _ANY if path == "/logout" else DECIDE


class Visits:
    """Wraps an ASGI application: finds out who sends a request, and refuses it without a role that allows it.

    A request that changes something needs a token even while the pages are open to everybody, and from a browser also
    the value that only the forms of these pages have. `refuse` creates the reply to a request that is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        control: AccessControl,
        sessions: Sessions,
        refuse: Callable[[Request, TidemillError], Response],
    ) -> None:
        self._app, self._control, self._sessions, self._refuse = app, control, sessions, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            self._control.refresh_if_due()
        except Exception:
            log.exception("the tokens could not be read; the earlier tokens stay in force")
        try:
            allowed = find_allowed(request.method, request.url.path)
            scope[_KEY] = Visitor() if allowed is None else await self._identify(request, allowed)
        except TidemillError as error:
            response = await run_in_threadpool(self._refuse, request, error)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _identify(self, request: Request, allowed: Set[Role]) -> Visitor:
        is_reading = request.method in ("GET", "HEAD")
        header, session = request.headers.get("authorization"), self._find_session(request)
        if header is not None or session is None:
            grant = self._control.admit(header.encode("latin-1") if header is not None else None, allowed)
            if grant is None and not is_reading:
                raise AccessDenied(
                    "a decision needs a token", "create one: `tidemill tokens create NAME --role approver`"
                )
            return Visitor(grant)
        if not is_reading:
            require_same_origin(request)
            sent = (await read_form(request)).get("csrf", "")
            if not hmac.compare_digest(sent.encode(), session.csrf.encode()):
                raise AccessDenied("the form was not sent by these pages", "open the page again, then send it", 403)
        return Visitor(self._control.require(self._control.find_again(session.digest), allowed), session.csrf)

    def _find_session(self, request: Request) -> WebSession | None:
        return self._sessions.find(request.headers.get("cookie", ""))


def require_same_origin(request: Request) -> None:
    """Raise `AccessDenied` if a browser reports that a page of another origin sent a request."""
    origins = [value for name, value in request.headers.raw if name == b"origin"]
    is_foreign = find_refused_origin(origins, request.headers.get("host", "").encode("latin-1"))
    if is_foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise AccessDenied("the request comes from a web page of another origin", "open these pages themselves", 403)
