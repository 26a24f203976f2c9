"""The lists of records: one page for each kind of record, newest first, with filters."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.metric import find_metric_info
from tidemill.core.release import Release
from tidemill.core.resources import BookReader
from tidemill.core.route import Route, describe_arms
from tidemill.core.run import METRIC_SETS, Run, select_test_metrics
from tidemill.core.trigger import Job
from tidemill.data.charts import ChartSeries, TrafficChange, TrafficShare, draw_over_time, draw_traffic_shares
from tidemill.web import view
from tidemill.web.reading import Query, RecordPage, Site, read_page
from tidemill.web.view import Cell, Chart, Page, PageFilter, PageTable
from tidemill.web.words import describe_metric

_RUN_STATES = ("running", "done", "failed", "stopped", "interrupted", "cancelled")
_JOB_STATES = ("waiting", "running", "done", "failed", "stopped", "cancelled", "dropped")
_OUTCOMES = ("pass", "warn", "fail", "undecided")
_ACTIONS = ("proceed", "stop", "retrain", "recall", "promote", "step", "rollback", "hold", "ignore")


def runs(site: Site, query: Query) -> Page:
    """List the runs."""
    filters_in_query = query.choices(("pipeline", "state", "model"))
    records_page = read_page(site.books.runs, query, environment=site.environment, **filters_in_query)
    filters = [
        _filter("runs", query, "pipeline", _list_values(site.books.runs, "pipeline")),
        _filter("runs", query, "state", _RUN_STATES),
    ]
    return _list(
        "runs", "Each execution of a pipeline.", query, records_page, filters, run_table("", records_page.records)
    )


def run_table(title: str, records: list[Run]) -> PageTable:
    """Return a table of runs."""
    rows = [
        [
            view.time(run.started),
            view.link("runs", run.id, run.pipeline),
            view.badge(run.state),
            view.duration(run.seconds),
            view.text(run.started_by.trigger or run.started_by.user or "manually"),
            view.text(run.error or _summarize_metrics(run.metrics)),
        ]
        for run in records
    ]
    return PageTable(title, ("started", "pipeline", "state", "duration", "cause", "result"), rows, "No run matches.")


def _summarize_metrics(metrics: dict[str, float]) -> str:
    """Return the first test metrics of a run in one line; without test metrics, its first metrics."""
    return ", ".join(
        f"{describe_metric(name)} {value:.4f}"
        for name, value in list((select_test_metrics(metrics) or metrics).items())[:3]
    )


def metric_table(metrics: dict[str, float]) -> PageTable:
    """Return a table of metrics: a row for each metric, a column for each set (test, baseline, train)."""
    row_sets = [row_set for row_set in METRIC_SETS if any(name.startswith(f"{row_set}_") for name in metrics)]
    names = dict.fromkeys(name.partition("_")[2] for name in metrics if name.partition("_")[0] in row_sets)
    rows = [
        [Cell(describe_metric(name)), *(view.number(metrics.get(f"{row_set}_{name}")) for row_set in row_sets)]
        for name in names
    ]
    other_names = [name for name in metrics if name.partition("_")[0] not in row_sets]
    rows += [
        [Cell(describe_metric(name)), view.number(metrics[name]), *([Cell("")] * (len(row_sets) - 1))]
        for name in other_names
    ]
    return PageTable("Metrics", ("metric", *(row_sets or ["value"])), rows, "There are no metrics.")


def releases(site: Site, query: Query) -> Page:
    """List the releases."""
    filters_in_query = query.choices(("name",))
    records_page = read_page(site.books.releases, query, **filters_in_query)
    metrics = _find_common_metrics(records_page.records)
    rows = [
        [
            view.link_release(release.label),
            view.time(release.created),
            *(view.number(release.metrics.get(metric)) for metric in metrics),
            Cell(release.flavor),
            Cell(release.environment),
            view.digest(release.package),
            view.link("runs", release.run, "run"),
        ]
        for release in records_page.records
    ]
    columns = (
        "release",
        "created",
        *(_metric_column(metric) for metric in metrics),
        "flavor",
        "environment",
        "package",
        "run",
    )
    table = PageTable("", columns, rows, "There is no release yet: train a model with `tidemill run training`.")
    filters = [_filter("releases", query, "name", _list_values(site.books.releases, "name"))]
    page = _list(
        "releases", "Each version of a model, with the metrics of its training.", query, records_page, filters, table
    )
    if metrics and len(records_page.records) > 1:
        page.parts.insert(0, _draw_progress(records_page.records, metrics[0]))
    return page


def _find_common_metrics(records: list[Release]) -> list[str]:
    """Return two test metrics of the releases, headline metrics first."""
    names = list(dict.fromkeys(name for release in records for name in release.metrics if name.startswith("test_")))
    return sorted(names, key=lambda name: not find_metric_info(name.removeprefix("test_")).headline)[:2]


def _metric_column(metric: str) -> str:
    return f"test {describe_metric(metric.removeprefix('test_'))}"


def _draw_progress(records: list[Release], metric: str) -> Chart:
    """Draw a metric of the releases over time, a line for each name."""
    series = []
    for name in sorted({release.name for release in records}):
        measured = [release for release in reversed(records) if release.name == name and metric in release.metrics]
        series.append(
            ChartSeries(
                name, [release.created for release in measured], [release.metrics[metric] for release in measured]
            )
        )
    caption = f"{_metric_column(metric).capitalize()} of each release at the gate, measured on its own test rows."
    return Chart("progress", draw_over_time(series, [], _metric_column(metric)), caption)


def routes(site: Site, query: Query) -> Page:
    """List the routes."""
    filters_in_query = query.choices(("model",))
    records_page = read_page(site.books.routes, query, environment=site.environment, **filters_in_query)
    filters = [_filter("routes", query, "model", _list_values(site.books.routes, "model"))]
    lead = "The releases in production, with times and reasons. Each change is a new version of the route."
    page = _list("routes", lead, query, records_page, filters, route_table("", records_page.records))
    page.parts[:0] = _draw_timelines(site, query, records_page.records)
    return page


def route_table(title: str, records: list[Route]) -> PageTable:
    """Return a table of routes."""
    rows = [
        [
            view.time(route.since),
            Cell(route.model),
            view.number(route.version),
            Cell(describe_arms(route.arms)),
            view.text(route.reason),
            Cell(route.by),
            view.link("verdicts", route.verdict, "verdict"),
        ]
        for route in records
    ]
    return PageTable(
        title,
        ("since", "model", "version", "releases", "reason", "by", "evidence"),
        rows,
        "No release is in production yet.",
    )


def _draw_timelines(site: Site, query: Query, records: list[Route]) -> list[Chart]:
    charts: list[Chart] = []
    for model in sorted({route.model for route in records}):
        model_routes = [route for route in reversed(records) if route.model == model]
        end = _find_end(site, query, model_routes)
        changes = [
            TrafficChange(
                route.since,
                [TrafficShare(arm.release, arm.role, 1.0 if arm.role == "bound" else arm.share) for arm in route.arms],
                route.reason,
            )
            for route in model_routes
        ]
        caption = (
            f"Releases of {model} in production until {end:%Y-%m-%d %H:%M}; lighter colours for a part of the requests."
        )
        charts.append(Chart(f"traffic-{len(charts)}", draw_traffic_shares(changes, end), caption))
    return charts


def _find_end(site: Site, query: Query, routes: list[Route]) -> datetime:
    """Return the end of the chart: the newest event of the ledger; on a page of older routes, its last route."""
    latest = [] if query.get("before") else site.books.events.find(newest=True, limit=1)
    return max([routes[-1].since, *(event.known_at for event in latest)])


def verdicts(site: Site, query: Query) -> Page:
    """List the verdicts."""
    filters_in_query = query.choices(("check", "outcome", "action", "model", "subject", "run"))
    records_page = read_page(site.books.verdicts, query, environment=site.environment, **filters_in_query)
    filters = [
        _filter("verdicts", query, "check", _list_values(site.books.verdicts, "check")),
        _filter("verdicts", query, "outcome", _OUTCOMES),
        _filter("verdicts", query, "action", _ACTIONS),
    ]
    lead = "The outcome of each check, the resulting action, and the evidence."
    return _list("verdicts", lead, query, records_page, filters, verdict_table("", records_page.records))


def verdict_table(title: str, records: list[Verdict], empty: str = "No verdict matches.") -> PageTable:
    """Return a table of verdicts."""
    rows = [
        [
            view.time(verdict.time),
            view.link("verdicts", verdict.id, verdict.check),
            view.badge(verdict.outcome),
            Cell(verdict.action),
            view.link_release(verdict.subject),
            view.text(verdict.reason),
        ]
        for verdict in records
    ]
    return PageTable(title, ("time", "check", "outcome", "action", "subject", "reason"), rows, empty)


def events(site: Site, query: Query) -> Page:
    """List the events."""
    filters_in_query = query.choices(("kind", "subject"))
    records_page = read_page(site.books.events, query, environment=site.environment, **filters_in_query)
    rows = [
        [
            view.time(event.time),
            view.link("events", event.id, event.kind),
            view.link_release(event.subject),
            view.text(_summarize_payload(event)),
        ]
        for event in records_page.records
    ]
    filters = [_filter("events", query, "kind", _list_values(site.books.events, "kind"))]
    table = PageTable("", ("time", "kind", "subject", "text"), rows, "There is no event yet.")
    return _list(
        "events",
        "The events of this environment; triggers start pipelines on events.",
        query,
        records_page,
        filters,
        table,
    )


def _summarize_payload(event: Event) -> str:
    values = {name: value for name, value in event.payload.items() if value not in ("", None)}
    return str(values.get("reason") or ", ".join(f"{name} {value}" for name, value in values.items()))


def jobs(site: Site, query: Query) -> Page:
    """List the jobs."""
    filters_in_query = query.choices(("state", "trigger", "model"))
    records_page = read_page(site.books.jobs, query, environment=site.environment, **filters_in_query)
    filters = [
        _filter("jobs", query, "state", _JOB_STATES),
        _filter("jobs", query, "trigger", _list_values(site.books.jobs, "trigger")),
    ]
    lead = "The pipelines that triggers started, with the events that caused them."
    return _list("jobs", lead, query, records_page, filters, job_table("", records_page.records))


def job_table(title: str, records: list[Job]) -> PageTable:
    """Return a table of jobs."""
    rows = [
        [
            view.time(job.created),
            Cell(job.trigger),
            Cell(job.pipeline),
            view.badge(job.state),
            view.time(job.available),
            view.link("events", job.event, "event"),
            view.link("runs", job.run, "run"),
            view.text(job.error),
        ]
        for job in records
    ]
    columns = ("fired", "trigger", "pipeline", "state", "earliest start", "cause", "run", "error")
    return PageTable(title, columns, rows, "No trigger has started a pipeline yet.")


def _list_values(book: BookReader[Any], column: str) -> tuple[str, ...]:
    return tuple(sorted(value for value in book.values(column) if value))


def _filter(list_name: str, query: Query, name: str, choices: tuple[str, ...]) -> PageFilter:
    """Return links that choose a value and keep the other filters."""
    other_filters = {key: value for key, value in query.parameters.items() if key not in (name, "before", "format")}
    links = [("all", view.build_path(list_name, **other_filters))]
    links += [(choice, view.build_path(list_name, **{**other_filters, name: choice})) for choice in choices]
    return PageFilter(name, query.get(name) or "all", links)


def _list(
    list_name: str, lead: str, query: Query, records_page: RecordPage[Any], filters: list[PageFilter], table: PageTable
) -> Page:
    records: list[Struct] = records_page.records
    kept_filters = {name: value for name, value in query.parameters.items() if name not in ("before", "format")}
    return Page(
        title=list_name.capitalize(),
        lead=lead,
        data={list_name: records, "older": records_page.older},
        filters=[column for column in filters if len(column.choices) > 1],
        text=query.get("text"),
        parts=[table],
        newest=view.build_path(list_name, **kept_filters) if query.get("before") else "",
        older=view.build_path(list_name, **{**kept_filters, "before": records_page.older})
        if records_page.older
        else "",
    )
