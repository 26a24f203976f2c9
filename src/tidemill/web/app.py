"""The web pages: an ASGI application that shows the ledger of one environment, and takes decisions of people."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tidemill.access.control import AccessControl
from tidemill.core.deployment import EnvironmentStatus
from tidemill.core.resources import Board, BooksReader, Packages
from tidemill.errors import AccessDenied, Conflict, InputError, NotFound, TidemillError
from tidemill.evidence.maturity import Maturity
from tidemill.evidence.promises import PolicyStatus
from tidemill.telemetry import get_logger
from tidemill.web import builds, details, maturity, overview, pages, policy, regimes, run, templating
from tidemill.web.decisions import BUILD_ACTIONS, Desk, decide
from tidemill.web.forms import read_form, wants_json
from tidemill.web.guard import Guard
from tidemill.web.login import PATH, Login
from tidemill.web.reading import Query, Site
from tidemill.web.sessions import Sessions
from tidemill.web.view import Chart, Facts, Page, PageTable
from tidemill.web.visitors import Visits, get_visitor

log = get_logger("web")

_LIST_NAMES = ("runs", "releases", "routes", "regimes", "policy", "maturity", "builds", "verdicts", "events", "jobs")
_LISTS: dict[str, Callable[[Site, Query], Page]] = {
    "/": overview.overview,
    "/runs": pages.runs,
    "/releases": pages.releases,
    "/routes": pages.routes,
    "/regimes": regimes.regimes,
    "/policy": policy.policy,
    "/maturity": maturity.maturity,
    "/builds": builds.builds,
    "/verdicts": pages.verdicts,
    "/events": pages.events,
    "/jobs": pages.jobs,
}
_RECORDS: dict[str, Callable[..., Page]] = {
    "/runs/{identifier}": run.run,
    "/artifacts/{identifier}": run.artifact,
    "/releases/{name}/{version}": details.release,
    "/verdicts/{identifier}": details.verdict,
    "/events/{identifier}": details.event,
}
_FILES = {"/style.css": "text/css", "/charts.js": "text/javascript"}
_PART_TYPES: dict[type, str] = {PageTable: "table", Facts: "facts", Chart: "chart"}
_CACHE_ONE_DAY = {"cache-control": "public, max-age=86400"}


def create_app(
    books: BooksReader,
    board: Board,
    project: str,
    environment: str,
    control: AccessControl,
    *,
    hosts: Collection[str] | None = (),
    secure: bool = False,
    packages: Packages | None = None,
    read_policies: Callable[[], list[PolicyStatus]] | None = None,
    read_maturity: Callable[[], Maturity] | None = None,
    read_environments: Callable[[], list[EnvironmentStatus]] | None = None,
    desk: Desk | None = None,
) -> Starlette:
    """Create the application with the pages of an environment.

    `control` decides which requests need a token. `hosts` are accepted besides localhost, None for every name;
    requests for other host names are refused. With `secure`, browsers send the cookie only with TLS. `read_policies`
    compares the policy of each model with its promise, `read_maturity` assesses the level of the project,
    `read_environments` returns what serves each environment. Without a `desk`, nobody can decide on these pages.
    """
    site = Site(books, board, project, environment, packages, read_policies, read_maturity, read_environments)
    sessions = Sessions(control.clock, secure=secure)
    login = Login(control, sessions)
    routes = [Route(path, partial(_show_page, site, show)) for path, show in (_LISTS | _RECORDS).items()]
    routes += [Route(path, partial(_send_file, path, media_type)) for path, media_type in _FILES.items()]
    routes += [
        Route("/plotly.js", _send_plotly),
        Route(PATH, login.show),
        Route(PATH, login.submit, methods=["POST"]),
        Route("/logout", login.log_out, methods=["POST"]),
    ]
    if desk is not None:
        routes.append(Route("/decisions/{action}", partial(_decide, site, desk), methods=["POST"]))
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, hosts=hosts),
            Middleware(Visits, control=control, sessions=sessions, refuse=partial(_refuse, site)),
        ],
        exception_handlers={
            404: partial(_report_missing_page, site),
            405: partial(_report_wrong_method, site),
            500: partial(_report_failure, site),
        },
    )


def _show_page(site: Site, show: Callable[..., Page], request: Request) -> Response:
    """Return a page as HTML, or its records as JSON; Starlette runs this in a thread, because the ledger blocks."""
    try:
        page = show(site, Query(dict(request.query_params)), **request.path_params)
    except TidemillError as error:
        return _render_error(site, request, _find_status(error), error.problem, error.cure)
    if wants_json(request):
        return Response(msgspec.json.encode(page.data), media_type="application/json")
    charts = [part for part in page.parts if isinstance(part, Chart)]
    return _render_html(site, request, page.template, 200, page=page, charts=charts)


async def _decide(site: Site, desk: Desk, request: Request) -> Response:
    """Decide on a release, a model or a build; show what serves now."""
    try:
        form = await read_form(request)
        decided = await run_in_threadpool(decide, desk, request.path_params["action"], form, get_visitor(request))
    except TidemillError as error:
        return await run_in_threadpool(_refuse, site, request, error)
    if wants_json(request):
        return Response(msgspec.json.encode(decided), media_type="application/json")
    if request.path_params["action"] in BUILD_ACTIONS:
        return RedirectResponse("/builds", 303)
    return RedirectResponse(f"/releases/{quote(form['subject'])}" if "/" in form["subject"] else "/routes", 303)


def _find_status(error: TidemillError) -> int:
    if isinstance(error, AccessDenied):
        return error.status
    by_kind = ((NotFound, 404), (InputError, 400), (Conflict, 409))
    return next((status for kind, status in by_kind if isinstance(error, kind)), 503)


def _refuse(site: Site, request: Request, error: TidemillError) -> Response:
    """Return the login for a person without a token, otherwise the error."""
    status = _find_status(error)
    if status != 401:
        return _render_error(site, request, status, error.problem, error.cure)
    if wants_json(request) or "authorization" in request.headers:
        body = msgspec.json.encode({"error": error.problem, "cure": error.cure})
        return Response(body, 401, media_type="application/json", headers={"www-authenticate": "Bearer"})
    query = f"?{request.url.query}" if request.url.query else ""
    target = f"{request.url.path}{query}" if request.method == "GET" else "/"
    return RedirectResponse(f"{PATH}?next={quote(target, safe='')}", 303)


def _render_html(site: Site, request: Request, template: str, status: int, **values: Any) -> Response:
    current = values["page"].title if "page" in values else ""
    text = templating.render_template(
        template,
        site=site,
        visitor=get_visitor(request),
        list_names=_LIST_NAMES,
        current=current,
        part_type=_name_part_type,
        as_shown=details.as_shown,
        **values,
    )
    return Response(text, status, media_type="text/html")


def _name_part_type(part: Any) -> str:
    """Return the type of a page's part for the template: table, facts or chart."""
    return _PART_TYPES[type(part)]


def _render_error(site: Site, request: Request, status: int, problem: str, cure: str) -> Response:
    if wants_json(request):
        body = msgspec.json.encode({"error": problem, "cure": cure})
        return Response(body, status, media_type="application/json")
    return _render_html(site, request, "error.html", status, problem=problem, cure=cure)


def _report_missing_page(site: Site, request: Request, _: Exception) -> Response:
    return _render_error(site, request, 404, f"There is no page {request.url.path}", "Open one of these pages:")


def _report_wrong_method(site: Site, request: Request, _: Exception) -> Response:
    cure = "Use GET, and POST only for the forms of these pages."
    return _render_error(site, request, 405, f"{request.url.path} does not accept {request.method}", cure)


def _report_failure(site: Site, request: Request, error: Exception) -> Response:
    log.error("the page %s failed", request.url.path, exc_info=error)
    return _render_error(site, request, 500, "The page could not be created", "See the log of this process.")


def _send_file(path: str, media_type: str, _: Request) -> Response:
    return Response(templating.read_file(path.removeprefix("/")), media_type=media_type)


def _send_plotly(_: Request) -> Response:
    return Response(templating.read_plotly(), media_type="text/javascript", headers=_CACHE_ONE_DAY)
