"""Login and logout: a token that a person pastes starts a session."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidemill.access.control import AccessControl
from tidemill.access.roles import READ
from tidemill.errors import AccessDenied, TidemillError
from tidemill.web.forms import read_form
from tidemill.web.sessions import Sessions
from tidemill.web.templating import render_template
from tidemill.web.visitors import require_same_origin

PATH = "/login"


class Login:
    """The routes of the login; a session ends with its token, after half a day, or when the process stops."""

    def __init__(self, control: AccessControl, sessions: Sessions) -> None:
        self._control, self._sessions = control, sessions

    def show(self, request: Request) -> Response:
        """Return the form; while the pages need no token, there is nothing to log in to."""
        target = _local(request.query_params.get("next", ""))
        if self._control.is_open:
            return RedirectResponse(target, 303)
        return _render(target)

    async def submit(self, request: Request) -> Response:
        """Start a session if the token of the form is valid and may read the pages."""
        target = "/"
        try:
            require_same_origin(request)
            form = await read_form(request)
            target = _local(form.get("next", ""))
            self._control.refresh()  # a token that was created just now
            grant = self._control.require(self._control.find(form.get("token", "").strip().encode()), READ)
        except TidemillError as error:
            status = error.status if isinstance(error, AccessDenied) else 400
            return await run_in_threadpool(_render, target, error, status)
        cookie = self._sessions.start(grant.token.digest)
        return RedirectResponse(target, 303, headers={"set-cookie": cookie})

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        cookie = self._sessions.end(request.headers.get("cookie", ""))
        return RedirectResponse(PATH, 303, headers={"set-cookie": cookie})


def _render(target: str, error: TidemillError | None = None, status: int = 200) -> Response:
    text = render_template("login.html", target=target, error=error)
    return Response(text, status, media_type="text/html")


def _local(target: str) -> str:
    """Return the path of a page, or the overview if a target is on another server.

    >>> _local("/runs?limit=5"), _local("//evil.example"), _local("https://evil.example"), _local("/\\\\evil.example")
    ('/runs?limit=5', '/', '/', '/')
    """
    is_local = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if is_local else "/"
