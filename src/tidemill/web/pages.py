"""The lists: one page for each noun, newest first, filtered by what its book is searched by."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.metric import find_metric_info
from tidemill.core.release import Release
from tidemill.core.resources import BookReader
from tidemill.core.route import Route
from tidemill.core.run import Run, select_test_metrics
from tidemill.core.trigger import Job
from tidemill.data.charts import ChartSeries, TrafficChange, TrafficShare, draw_over_time, draw_traffic_shares
from tidemill.web import view
from tidemill.web.reading import Part, Query, Site, page
from tidemill.web.view import Cell, Chart, Filter, Page, Table
from tidemill.web.words import spoken

_RUN_STATES = ("running", "done", "failed", "stopped", "interrupted", "cancelled")
_JOB_STATES = ("waiting", "running", "done", "failed", "stopped", "cancelled", "dropped")
_OUTCOMES = ("pass", "warn", "fail", "undecided")
_ACTIONS = ("proceed", "stop", "retrain", "recall", "promote", "rollback", "hold", "ignore")


def runs(site: Site, query: Query) -> Page:
    """Executions of pipelines."""
    chosen = query.choices(("pipeline", "state", "model"))
    part = page(site.books.runs, query, environment=site.environment, **chosen)
    filters = [
        _filter("runs", query, "pipeline", _values(site.books.runs, "pipeline")),
        _filter("runs", query, "state", _RUN_STATES),
    ]
    return _list("runs", "Each execution of a pipeline.", query, part, filters, run_table("", part.records))


def run_table(title: str, records: list[Run]) -> Table:
    """Runs in short."""
    rows = [
        [
            view.moment(run.started),
            view.to("runs", run.id, run.pipeline),
            view.badge(run.state),
            view.lasted(run.seconds),
            view.text(run.started_by.trigger or run.started_by.user or "manually"),
            view.text(run.error or _metrics(run.metrics)),
        ]
        for run in records
    ]
    return Table(title, ("started", "pipeline", "state", "took", "cause", "result"), rows, "No run fits.")


def _metrics(found: dict[str, float]) -> str:
    """The test metrics of a run in a line; all of them where none is called so."""
    return ", ".join(
        f"{spoken(name)} {value:.4f}" for name, value in list((select_test_metrics(found) or found).items())[:3]
    )


def metric_table(found: dict[str, float]) -> Table:
    """Metrics as a table: a row for each, a column for each set of rows (test, train) that it was measured on."""
    sets = [about for about in ("test", "train") if any(name.startswith(f"{about}_") for name in found)]
    names = dict.fromkeys(name.partition("_")[2] for name in found if name.partition("_")[0] in sets)
    rows = [[Cell(spoken(name)), *(view.count(found.get(f"{about}_{name}")) for about in sets)] for name in names]
    others = [name for name in found if name.partition("_")[0] not in sets]
    rows += [[Cell(spoken(name)), view.count(found[name]), *([Cell("")] * (len(sets) - 1))] for name in others]
    return Table("Metrics", ("metric", *(sets or ["value"])), rows, "Nothing was measured.")


def releases(site: Site, query: Query) -> Page:
    """Versions of models."""
    chosen = query.choices(("name",))
    part = page(site.books.releases, query, **chosen)
    metrics = _common(part.records)
    rows = [
        [
            view.to_release(release.label),
            view.moment(release.created),
            *(view.count(release.metrics.get(metric)) for metric in metrics),
            Cell(release.flavor),
            Cell(release.environment),
            view.digest(release.package),
            view.to("runs", release.run, "its run"),
        ]
        for release in part.records
    ]
    columns = ("release", "made", *(_column(metric) for metric in metrics), "flavor", "environment", "package", "run")
    table = Table("", columns, rows, "No model was released yet: a training makes one, `tidemill run training`.")
    filters = [_filter("releases", query, "name", _values(site.books.releases, "name"))]
    shown = _list("releases", "Each version of a model, as it was when it was made.", query, part, filters, table)
    if metrics and len(part.records) > 1:
        shown.parts.insert(0, _progress(part.records, metrics[0]))
    return shown


def _common(records: list[Release]) -> list[str]:
    """The test metrics that most say, the first two and ROC AUC."""
    names = list(dict.fromkeys(name for release in records for name in release.metrics if name.startswith("test_")))
    return sorted(names, key=lambda name: not find_metric_info(name.removeprefix("test_")).headline)[:2]


def _column(metric: str) -> str:
    return f"test {spoken(metric.removeprefix('test_'))}"


def _progress(records: list[Release], metric: str) -> Chart:
    """A metric of the releases over time, a line for each name."""
    series = []
    for name in sorted({release.name for release in records}):
        made = [release for release in reversed(records) if release.name == name and metric in release.metrics]
        series.append(ChartSeries(name, [one.created for one in made], [one.metrics[metric] for one in made]))
    caption = f"{_column(metric).capitalize()} of each release at the gate, each on the newest rows of its time."
    return Chart("progress", draw_over_time(series, [], _column(metric)), caption)


def routes(site: Site, query: Query) -> Page:
    """Who answered when."""
    chosen = query.choices(("model",))
    part = page(site.books.routes, query, environment=site.environment, **chosen)
    filters = [_filter("routes", query, "model", _values(site.books.routes, "model"))]
    lead = "Which releases answered, from when on and why: a change is a new version, none is lost."
    shown = _list("routes", lead, query, part, filters, route_table("", part.records))
    shown.parts[:0] = _timelines(site, query, part.records)
    return shown


def route_table(title: str, records: list[Route]) -> Table:
    """Routes in short."""
    rows = [
        [
            view.moment(route.since),
            Cell(route.model),
            view.count(route.version),
            Cell(", ".join(f"{arm.release} ({arm.role}, {arm.share:.0%})" for arm in route.arms)),
            view.text(route.reason),
            Cell(route.by),
            view.to("verdicts", route.verdict, "verdict"),
        ]
        for route in records
    ]
    return Table(title, ("since", "model", "version", "answers", "why", "by", "evidence"), rows, "Nobody answers yet.")


def _timelines(site: Site, query: Query, records: list[Route]) -> list[Chart]:
    charts: list[Chart] = []
    for model in sorted({route.model for route in records}):
        own = [route for route in reversed(records) if route.model == model]
        end = _end_of(site, query, own)
        changes = [
            TrafficChange(r.since, [TrafficShare(a.release, a.role, a.share) for a in r.arms], r.reason) for r in own
        ]
        caption = f"Releases of {model} that answered, until {end:%Y-%m-%d %H:%M}; fainter where only a part."
        charts.append(Chart(f"answering-{len(charts)}", draw_traffic_shares(changes, end), caption))
    return charts


def _end_of(site: Site, query: Query, own: list[Route]) -> datetime:
    """How far the chart goes: to the newest event that the ledger knows, on an older page to its last route."""
    known = [] if query.get("before") else site.books.events.find(newest=True, limit=1)
    return max([own[-1].since, *(event.known_at for event in known)])


def verdicts(site: Site, query: Query) -> Page:
    """What checks found."""
    chosen = query.choices(("check", "outcome", "action", "model", "subject", "run"))
    part = page(site.books.verdicts, query, environment=site.environment, **chosen)
    filters = [
        _filter("verdicts", query, "check", _values(site.books.verdicts, "check")),
        _filter("verdicts", query, "outcome", _OUTCOMES),
        _filter("verdicts", query, "action", _ACTIONS),
    ]
    lead = "What every check found, what it calls for, and the evidence."
    return _list("verdicts", lead, query, part, filters, verdict_table("", part.records))


def verdict_table(title: str, records: list[Verdict], nothing: str = "No verdict fits.") -> Table:
    """Verdicts in short."""
    rows = [
        [
            view.moment(verdict.time),
            view.to("verdicts", verdict.id, verdict.check),
            view.badge(verdict.outcome),
            Cell(verdict.action),
            view.to_release(verdict.subject),
            view.text(verdict.reason),
        ]
        for verdict in records
    ]
    return Table(title, ("when", "check", "outcome", "calls for", "subject", "why"), rows, nothing)


def events(site: Site, query: Query) -> Page:
    """What happened."""
    chosen = query.choices(("kind", "subject"))
    part = page(site.books.events, query, environment=site.environment, **chosen)
    rows = [
        [
            view.moment(event.time),
            view.to("events", event.id, event.kind),
            view.to_release(event.subject),
            view.text(_said(event)),
        ]
        for event in part.records
    ]
    filters = [_filter("events", query, "kind", _values(site.books.events, "kind"))]
    table = Table("", ("when", "kind", "subject", "what"), rows, "Nothing happened yet.")
    return _list("events", "What happened: triggers wait for these.", query, part, filters, table)


def _said(event: Event) -> str:
    facts = {name: value for name, value in event.payload.items() if value not in ("", None)}
    return str(facts.get("reason") or ", ".join(f"{name} {value}" for name, value in facts.items()))


def jobs(site: Site, query: Query) -> Page:
    """Firings of triggers."""
    chosen = query.choices(("state", "trigger", "model"))
    part = page(site.books.jobs, query, environment=site.environment, **chosen)
    filters = [
        _filter("jobs", query, "state", _JOB_STATES),
        _filter("jobs", query, "trigger", _values(site.books.jobs, "trigger")),
    ]
    lead = "Each firing of a trigger: what it started, because of what."
    return _list("jobs", lead, query, part, filters, job_table("", part.records))


def job_table(title: str, records: list[Job]) -> Table:
    """Jobs in short."""
    rows = [
        [
            view.moment(job.created),
            Cell(job.trigger),
            Cell(job.pipeline),
            view.badge(job.state),
            view.moment(job.available),
            view.to("events", job.event, "event"),
            view.to("runs", job.run, "run"),
            view.text(job.error),
        ]
        for job in records
    ]
    columns = ("fired", "trigger", "pipeline", "state", "may start", "cause", "run", "error")
    return Table(title, columns, rows, "No trigger fired yet.")


def _values(book: BookReader[Any], column: str) -> tuple[str, ...]:
    return tuple(sorted(value for value in book.values(column) if value))


def _filter(noun: str, query: Query, name: str, choices: tuple[str, ...]) -> Filter:
    """Links that choose a value and keep what else is chosen."""
    kept = {other: value for other, value in query.given.items() if other not in (name, "before", "format")}
    links = [("all", view.address(noun, **kept))]
    links += [(choice, view.address(noun, **{**kept, name: choice})) for choice in choices]
    return Filter(name, query.get(name) or "all", links)


def _list(noun: str, lead: str, query: Query, part: Part[Any], filters: list[Filter], table: Table) -> Page:
    records: list[Struct] = part.records
    kept = {name: value for name, value in query.given.items() if name not in ("before", "format")}
    return Page(
        title=noun.capitalize(),
        lead=lead,
        data={noun: records, "older": part.older},
        filters=[one for one in filters if len(one.choices) > 1],
        text=query.get("text"),
        parts=[table],
        newest=view.address(noun, **kept) if query.get("before") else "",
        older=view.address(noun, **{**kept, "before": part.older}) if part.older else "",
    )
