"""The first page: the releases in production, their health, and the problems that a person must solve."""

from typing import Any

from msgspec import Struct

from tidemill.clock import SystemClock
from tidemill.core.check import Verdict
from tidemill.core.route import Route
from tidemill.evidence import attention
from tidemill.web import view
from tidemill.web.pages import run_table, verdict_table
from tidemill.web.reading import Query, Site, find_newest
from tidemill.web.view import Cell, Page

_SHOWN = 10


class ServedModel(Struct, frozen=True):
    """A model's route, and its latest verdicts, one for each check."""

    route: Route
    health: list[Cell]
    warning: str


class ActionItem(Struct, frozen=True):
    """A problem that a person must solve: what, why, and the command or change that solves it."""

    what: str
    why: str
    cure: str
    href: str


def overview(site: Site, _: Query) -> Page:
    """Show the state of an environment."""
    published = site.board.routes()
    served = [_find_served(site, route) for route in published.values() if route.environment == site.environment]
    actions = attention.list_actions(site.books, site.environment, SystemClock().now())
    needs = [_link_item(item) for item in actions]
    verdicts = site.books.verdicts.find(newest=True, limit=_SHOWN, environment=site.environment)
    runs = site.books.runs.find(newest=True, limit=_SHOWN // 2, environment=site.environment)
    data: dict[str, Any] = {
        "project": site.project,
        "environment": site.environment,
        "routes": [model.route for model in served],
        "needs": needs,
        "verdicts": verdicts,
        "runs": runs,
    }
    empty = "There is no verdict yet."
    return Page(
        title="Overview",
        data=data,
        template="overview.html",
        parts=[verdict_table("Latest verdicts", verdicts, empty), run_table("Latest runs", runs)],
        extra={"served": served, "needs": needs},
    )


def _find_served(site: Site, route: Route) -> ServedModel:
    champion = route.arm("champion")
    subject = champion.release if champion else route.model
    columns = {"subject": subject, "environment": site.environment}
    checks = sorted(site.books.verdicts.values("check", **columns))
    latest = [find_newest(site.books.verdicts, check=check, **columns) for check in checks]
    health = [_health(verdict) for verdict in latest if verdict is not None]
    newest = find_newest(site.books.routes, environment=site.environment, model=route.model)
    warning = ""
    if newest is not None and newest.version != route.version:
        warning = f"the newest version of the route is {newest.version}, but version {route.version} is in production"
    return ServedModel(route, health, warning)


def _health(verdict: Verdict) -> Cell:
    """Return the latest verdict of a check as a badge; a verdict that the policy ignores has no alarm colour."""
    alarm = verdict.action not in ("ignore", "hold") or verdict.outcome == "pass"
    style = view.badge(verdict.outcome).style if alarm else "plain"
    text = verdict.outcome if verdict.action != "ignore" else f"{verdict.outcome}, ignored"
    return Cell(f"{verdict.check}: {text}", style, view.build_path("verdicts", verdict.id), verdict.reason)


def _link_item(item: attention.ActionItem) -> ActionItem:
    """Return an item with the link to the page of its record."""
    href = {
        "daemon": view.build_path("events", kind="daemon"),
        "batch": view.build_path("verdicts", item.subject),
        "release": view.link_release(item.subject).href if item.kind == "release" else "",
        "build": "/builds",
        "run": view.build_path("runs", item.subject),
        "proposal": view.build_path("events", item.subject),
    }[item.kind]
    return ActionItem(item.what, item.why, item.cure, href)
