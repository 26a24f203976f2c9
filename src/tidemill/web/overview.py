"""The first page: who answers, since when and why, how it is doing, and what needs a person."""

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
from tidemill.web.reading import Query, Site, newest
from tidemill.web.view import Cell, Page

_SHOWN = 10
_WAITING = {"approval.needed": "waits for approval", "model.frozen": "waits: its model is frozen"}
_ASKING = (*_WAITING, "watch.missing")
_ENDED_BADLY = ("failed", "stopped", "interrupted")


class Answering(Struct, frozen=True):
    """The route that a model's requests take, and its latest verdicts, one for each check."""

    route: Route
    health: list[Cell]
    warning: str


class Need(Struct, frozen=True):
    """Something that waits for a person: what, why, and what to do."""

    what: str
    why: str
    cure: str
    href: str


def overview(site: Site, _: Query) -> Page:
    """The state of an environment."""
    published = site.board.routes()
    answering = [_answering(site, route) for route in published.values() if route.environment == site.environment]
    needs = [*_silence(site), *_requests(site), *_troubles(site)]
    verdicts = site.books.verdicts.find(newest=True, limit=_SHOWN, environment=site.environment)
    runs = site.books.runs.find(newest=True, limit=_SHOWN // 2, environment=site.environment)
    data: dict[str, Any] = {
        "project": site.project,
        "environment": site.environment,
        "routes": [one.route for one in answering],
        "needs": needs,
        "verdicts": verdicts,
        "runs": runs,
    }
    nothing = "Nothing was judged yet."
    return Page(
        title="Overview",
        data=data,
        template="overview.html",
        parts=[verdict_table("Latest verdicts", verdicts, nothing), run_table("Latest runs", runs)],
        extra={"answering": answering, "needs": needs},
    )


def _answering(site: Site, route: Route) -> Answering:
    champion = route.arm("champion")
    subject = champion.release if champion else route.model
    about = {"subject": subject, "environment": site.environment}
    checks = sorted(site.books.verdicts.values("check", **about))
    latest = [newest(site.books.verdicts, check=check, **about) for check in checks]
    health = [_health(verdict) for verdict in latest if verdict is not None]
    decided = newest(site.books.routes, environment=site.environment, model=route.model)
    behind = decided is not None and decided.version != route.version
    warning = f"version {decided.version} was decided, version {route.version} is served" if behind and decided else ""
    return Answering(route, health, warning)


def _health(verdict: Verdict) -> Cell:
    """What a check found last; a finding that the policy only tells of is no alarm."""
    alarm = verdict.action not in ("ignore", "hold") or verdict.outcome == "pass"
    look = view.badge(verdict.outcome).look if alarm else "plain"
    told = verdict.outcome if verdict.action != "ignore" else f"{verdict.outcome}, only told"
    return Cell(f"{verdict.check}: {told}", look, view.address("verdicts", verdict.id), verdict.reason)


def _silence(site: Site) -> list[Need]:
    """A daemon that should watch and does not."""
    heard = read_daemon_status(site.books, site.environment, SystemClock().now())
    if heard is None or heard.state != "silent":
        return []
    return [Need("The daemon is silent", str(heard), "tidemill up", view.address("events", kind="daemon"))]


def _requests(site: Site) -> list[Need]:
    """Releases that wait for an approval, or that nothing would watch."""
    found = []
    for kind in _ASKING:
        for event in site.books.events.find(kind=kind, environment=site.environment, newest=True, limit=_SHOWN):
            if not _settled(site, event):
                found.append(_need(event))
    return found


def _need(event: Event) -> Need:
    reason = event.announcement.reason
    href = view.to_release(event.subject).href
    if said := _WAITING.get(event.kind):
        return Need(f"{event.subject} {said}", reason, f"tidemill models approve {event.subject}", href)
    return Need(f"{event.subject} would not be watched", reason, "state [[watch.values]] in tidemill.toml", href)


def _settled(site: Site, event: Event) -> bool:
    """Whether the release was routed since, or somebody decided on it."""
    model = event.subject.partition("/")[0]
    routed = site.books.routes.find(
        environment=site.environment, model=model, linked=f"release:{event.subject}", after=event.id, limit=1
    )
    decided = site.books.audit.find(subject=event.subject, after=event.id, limit=1)
    return bool(routed or decided)


def _troubles(site: Site) -> list[Need]:
    """Pipelines whose latest run did not end well."""
    found = []
    for pipeline in sorted(site.books.runs.values("pipeline", environment=site.environment)):
        run = newest(site.books.runs, pipeline=pipeline, environment=site.environment)
        if run is not None and run.state in _ENDED_BADLY:
            found.append(_trouble(run))
    return found


def _trouble(run: Run) -> Need:
    cure = f"tidemill runs logs {run.id}" if run.state != "stopped" else f"tidemill why {run.id}"
    return Need(f"the latest run of {run.pipeline} {_ended(run.state)}", run.error, cure, view.address("runs", run.id))


def _ended(state: str) -> str:
    return f"was {state}" if state != "failed" else state
