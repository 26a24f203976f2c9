"""The first page: the releases in production, their health, and the problems that a person must solve."""

from typing import Any

from msgspec import Struct

from tidemill.clock import SystemClock
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.route import Route
from tidemill.core.run import Run
from tidemill.evidence.daemon_status import read_daemon_status
from tidemill.web import view
from tidemill.web.pages import run_table, verdict_table
from tidemill.web.reading import Query, Site, find_newest
from tidemill.web.view import Cell, Page

_SHOWN = 10
_APPROVAL_TEXTS = {"approval.needed": "waits for an approval", "model.frozen": "waits: its model is frozen"}
_WAITING_KINDS = (*_APPROVAL_TEXTS, "watch.missing")
_BAD_STATES = ("failed", "stopped", "interrupted")


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
    needs = [*_find_silent_daemon(site), *_find_waiting_releases(site), *_find_failed_runs(site)]
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


def _find_silent_daemon(site: Site) -> list[ActionItem]:
    """Return an item if the daemon should be running but sends no signs of life."""
    status = read_daemon_status(site.books, site.environment, SystemClock().now())
    if status is None or status.state != "silent":
        return []
    return [ActionItem("The daemon is silent", str(status), "tidemill up", view.build_path("events", kind="daemon"))]


def _find_waiting_releases(site: Site) -> list[ActionItem]:
    """Return items for releases that wait for an approval or have no watch."""
    items = []
    for kind in _WAITING_KINDS:
        for event in site.books.events.find(kind=kind, environment=site.environment, newest=True, limit=_SHOWN):
            if not _is_settled(site, event):
                items.append(_to_item(event))
    return items


def _to_item(event: Event) -> ActionItem:
    reason = event.announcement.reason
    href = view.link_release(event.subject).href
    if text := _APPROVAL_TEXTS.get(event.kind):
        return ActionItem(f"{event.subject} {text}", reason, f"tidemill models approve {event.subject}", href)
    return ActionItem(f"{event.subject} has no monitoring", reason, "set [[watch.values]] in tidemill.toml", href)


def _is_settled(site: Site, event: Event) -> bool:
    """Return whether the release came into production after the event, or a person decided on it."""
    model = event.subject.partition("/")[0]
    routed = site.books.routes.find(
        environment=site.environment, model=model, linked=f"release:{event.subject}", after=event.id, limit=1
    )
    decided = site.books.audit.find(subject=event.subject, after=event.id, limit=1)
    return bool(routed or decided)


def _find_failed_runs(site: Site) -> list[ActionItem]:
    """Return items for pipelines whose latest run failed, stopped or was interrupted."""
    items = []
    for pipeline in sorted(site.books.runs.values("pipeline", environment=site.environment)):
        run = find_newest(site.books.runs, pipeline=pipeline, environment=site.environment)
        if run is not None and run.state in _BAD_STATES:
            items.append(_describe_failed_run(run))
    return items


def _describe_failed_run(run: Run) -> ActionItem:
    cure = f"tidemill runs logs {run.id}" if run.state != "stopped" else f"tidemill why {run.id}"
    return ActionItem(
        f"the latest run of {run.pipeline} {_describe_state(run.state)}",
        run.error,
        cure,
        view.build_path("runs", run.id),
    )


def _describe_state(state: str) -> str:
    return f"was {state}" if state != "failed" else state
