"""The web pages: an ASGI application that shows the ledger of one environment, and changes nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidemill.core.resources import Board, BooksReader
from tidemill.errors import InputError, NotFound, TidemillError
from tidemill.telemetry import get_logger
from tidemill.web import details, overview, pages, run, templating
from tidemill.web.guard import Guard
from tidemill.web.reading import Query, Site
from tidemill.web.view import Chart, Page

log = get_logger("web")

_NOUNS = ("runs", "releases", "routes", "verdicts", "events", "jobs")
_LISTS: dict[str, Callable[[Site, Query], Page]] = {
    "/": overview.overview,
    "/runs": pages.runs,
    "/releases": pages.releases,
    "/routes": pages.routes,
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
_KEPT = {"cache-control": "public, max-age=86400"}


def make_app(books: BooksReader, board: Board, project: str, environment: str, host: str = "") -> Starlette:
    """The pages of an environment.

    `host` is a name under which they are asked for beside localhost; requests for any other are refused.
    """
    site = Site(books, board, project, environment)
    routes = [Route(path, partial(_answer, site, show)) for path, show in (_LISTS | _RECORDS).items()]
    routes += [Route(path, partial(_file, path, kind)) for path, kind in _FILES.items()]
    routes.append(Route("/plotly.js", _plotly))
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={404: partial(_missing, site), 500: partial(_broken, site)},
    )


def _answer(site: Site, show: Callable[..., Page], request: Request) -> Response:
    """A page as HTML, or its records as JSON; Starlette runs this in a thread, since books block."""
    try:
        page = show(site, Query(dict(request.query_params)), **request.path_params)
    except TidemillError as wrong:
        status = 404 if isinstance(wrong, NotFound) else 400 if isinstance(wrong, InputError) else 503
        return _error(site, request, status, wrong.problem, wrong.cure)
    if _wants_json(request):
        return Response(msgspec.json.encode(page.data), media_type="application/json")
    return _html(site, page.template, 200, page=page, charts=[p for p in page.parts if isinstance(p, Chart)])


def _wants_json(request: Request) -> bool:
    return request.query_params.get("format") == "json"


def _html(site: Site, template: str, status: int, **values: Any) -> Response:
    here = values["page"].title if "page" in values else ""
    text = templating.html(template, site=site, nouns=_NOUNS, here=here, kind=_kind, plain=details.plain, **values)
    return Response(text, status, media_type="text/html")


def _kind(part: Any) -> str:
    """What a part of a page is, for the template."""
    return type(part).__name__.lower()


def _error(site: Site, request: Request, status: int, problem: str, cure: str) -> Response:
    if _wants_json(request):
        body = msgspec.json.encode({"error": problem, "cure": cure})
        return Response(body, status, media_type="application/json")
    return _html(site, "error.html", status, problem=problem, cure=cure)


def _missing(site: Site, request: Request, _: Exception) -> Response:
    return _error(site, request, 404, f"There is no page {request.url.path}", "The pages that there are:")


def _broken(site: Site, request: Request, fault: Exception) -> Response:
    log.error("the page %s failed", request.url.path, exc_info=fault)
    return _error(site, request, 500, "Something went wrong inside", "The log of this process says what.")


def _file(path: str, kind: str, _: Request) -> Response:
    return Response(templating.part(path.removeprefix("/")), media_type=kind)


def _plotly(_: Request) -> Response:
    return Response(templating.plotly(), media_type="text/javascript", headers=_KEPT)
