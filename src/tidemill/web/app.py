"""The web pages: an ASGI application that shows the ledger of one environment; it only reads."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidemill.core.resources import Board, BooksReader, Packages
from tidemill.errors import InputError, NotFound, TidemillError
from tidemill.evidence.maturity import Maturity
from tidemill.evidence.promises import PolicyStatus
from tidemill.telemetry import get_logger
from tidemill.web import details, maturity, overview, pages, policy, regimes, run, templating
from tidemill.web.guard import Guard
from tidemill.web.reading import Query, Site
from tidemill.web.view import Chart, Facts, Page, PageTable

log = get_logger("web")

_LIST_NAMES = ("runs", "releases", "routes", "regimes", "policy", "maturity", "verdicts", "events", "jobs")
_LISTS: dict[str, Callable[[Site, Query], Page]] = {
    "/": overview.overview,
    "/runs": pages.runs,
    "/releases": pages.releases,
    "/routes": pages.routes,
    "/regimes": regimes.regimes,
    "/policy": policy.policy,
    "/maturity": maturity.maturity,
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
    host: str = "",
    packages: Packages | None = None,
    read_policies: Callable[[], list[PolicyStatus]] | None = None,
    read_maturity: Callable[[], Maturity] | None = None,
) -> Starlette:
    """Create the application with the pages of an environment.

    `host` is an accepted host name besides localhost; requests for other host names are refused. `read_policies`
    compares the policy of each model with its promise, `read_maturity` assesses the level of the project.
    """
    site = Site(books, board, project, environment, packages, read_policies, read_maturity)
    routes = [Route(path, partial(_show_page, site, show)) for path, show in (_LISTS | _RECORDS).items()]
    routes += [Route(path, partial(_send_file, path, media_type)) for path, media_type in _FILES.items()]
    routes.append(Route("/plotly.js", _send_plotly))
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={404: partial(_report_missing_page, site), 500: partial(_report_failure, site)},
    )


def _show_page(site: Site, show: Callable[..., Page], request: Request) -> Response:
    """Return a page as HTML, or its records as JSON; Starlette runs this in a thread, because the ledger blocks."""
    try:
        page = show(site, Query(dict(request.query_params)), **request.path_params)
    except TidemillError as error:
        status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, InputError) else 503
        return _render_error(site, request, status, error.problem, error.cure)
    if _wants_json(request):
        return Response(msgspec.json.encode(page.data), media_type="application/json")
    return _render_html(
        site, page.template, 200, page=page, charts=[part for part in page.parts if isinstance(part, Chart)]
    )


def _wants_json(request: Request) -> bool:
    return request.query_params.get("format") == "json"


def _render_html(site: Site, template: str, status: int, **values: Any) -> Response:
    current = values["page"].title if "page" in values else ""
    text = templating.render_template(
        template,
        site=site,
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
    if _wants_json(request):
        body = msgspec.json.encode({"error": problem, "cure": cure})
        return Response(body, status, media_type="application/json")
    return _render_html(site, "error.html", status, problem=problem, cure=cure)


def _report_missing_page(site: Site, request: Request, _: Exception) -> Response:
    return _render_error(site, request, 404, f"There is no page {request.url.path}", "Open one of these pages:")


def _report_failure(site: Site, request: Request, error: Exception) -> Response:
    log.error("the page %s failed", request.url.path, exc_info=error)
    return _render_error(site, request, 500, "The page could not be created", "See the log of this process.")


def _send_file(path: str, media_type: str, _: Request) -> Response:
    return Response(templating.read_file(path.removeprefix("/")), media_type=media_type)


def _send_plotly(_: Request) -> Response:
    return Response(templating.read_plotly(), media_type="text/javascript", headers=_CACHE_ONE_DAY)
