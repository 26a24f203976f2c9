"""A run on its page, item by item; and an artifact, with what went into it and what was made from it."""

from typing import Any

from tidemill.core.run import Run, StepRun
from tidemill.errors import NotFound
from tidemill.evidence.formatting import describe_content, describe_role, find_end, format_clock, format_size
from tidemill.evidence.identify import RecordReference
from tidemill.evidence.lineage import Lineage, trace_lineage
from tidemill.evidence.run_details import (
    RunDetails,
    describe_cause,
    describe_executor,
    find_artifact,
    list_executors,
    read_run_details,
)
from tidemill.evidence.tree import as_text
from tidemill.web import view
from tidemill.web.pages import job_table, metric_table, verdict_table
from tidemill.web.reading import Query, Site
from tidemill.web.view import Cell, Facts, Page, Table


def run(site: Site, _: Query, identifier: str) -> Page:
    """A run: when and why it ran, what it was made of, its steps and artifacts, its metrics and verdicts."""
    story = read_run_details(site.books, identifier)
    record = story.run
    compared = story.compared_with.label if story.compared_with else record.compared_with
    known = Facts(
        "",
        [
            ("state", view.badge(record.state)),
            ("error", record.error),
            ("model", record.model),
            ("environment", record.environment),
            ("started", view.moment(record.started)),
            ("ended", view.moment(record.ended)),
            ("took", view.lasted(record.seconds)),
            ("started by", describe_cause(story)),
            ("executor", describe_executor(story)),
            ("made", view.to_release(story.releases[0].label) if story.releases else ""),
            ("compared with", view.to_release(compared) if compared else ""),
            ("tags", record.tags),
        ],
    )
    return Page(
        title=f"Run of {record.pipeline}",
        lead=record.id,
        data={
            "run": record,
            "steps": story.steps,
            "artifacts": story.artifacts,
            "verdicts": story.verdicts,
            "releases": story.releases,
            "compared_with": story.compared_with,
        },
        parts=[
            known,
            metric_table(record.metrics),
            verdict_table("Verdicts", story.verdicts, "No step of it judged anything."),
            _steps(story.steps),
            _artifacts(story),
            job_table("What started it", _jobs_of(site, record)),
            Facts("Parameters", list(record.params.items())),
            _versions(record),
            *_attempts(record),
            *_logs(story.steps),
        ],
    )


def artifact(site: Site, _: Query, identifier: str) -> Page:
    """An artifact: what it is, what went into it and what was made from it."""
    found = find_artifact(site.books, identifier)
    if found is None:
        raise NotFound(f"there is no artifact {identifier!r}", "the page of a run lists its artifacts")
    ways = {way: trace_lineage(site.books, RecordReference("artifact", found.id), way) for way in _WAYS}
    known = Facts(
        "",
        [
            ("what", describe_role(found)),
            ("kind", found.kind),
            ("size", format_size(found)),
            ("holds", describe_content(found)),
            ("collected", view.moment(found.collected)),
        ],
    )
    return Page(
        title=f"Artifact {found.id[:12]}",
        lead=found.id,
        data={"artifact": found, **ways},
        parts=[
            known,
            Facts("Summary", list(found.summary.items())),
            *(Facts(title, [("", _drawn(ways[way]))]) for way, title in _WAYS.items()),
        ],
    )


_WAYS: dict[Any, str] = {"up": "What went into it", "down": "What was made from it"}


def _drawn(found: Lineage) -> str:
    return as_text(found) + "\n" if found.edges else ""


def _jobs_of(site: Site, record: Run) -> list[Any]:
    job = record.started_by.job
    return site.books.jobs.find(id=job, limit=1) if job else []


def _steps(steps: list[StepRun]) -> Table:
    several = len(list_executors(steps)) > 1
    rows = [
        [
            view.count(step.position),
            Cell(step.step),
            view.badge(step.state),
            view.text((step.error or step.reason) + (f" (try {step.attempt})" if step.attempt > 1 else "")),
            Cell(format_clock(step.started), "time"),
            Cell(format_clock(find_end(step)), "time"),
            view.lasted(step.seconds),
            Cell(step.code[:8], "mono", "", step.code),
            *([Cell(step.executor)] if several else []),
        ]
        for step in steps
    ]
    columns = ("", "step", "state", "because", "start", "end", "took", "code", *(["executor"] if several else []))
    return Table("Steps", columns, rows, "No step began.")


def _artifacts(story: RunDetails) -> Table:
    rows = [
        [
            Cell(name),
            Cell(describe_role(one)),
            Cell(one.id[:12], "mono", view.address("artifacts", one.id), one.id),
            Cell(format_size(one), "count"),
            view.text("collected" if one.collected else describe_content(one)),
        ]
        for name, one in story.artifacts.items()
    ]
    return Table("Artifacts", ("step.output", "what", "digest", "size", "holds"), rows, "It left none.")


def _versions(record: Run) -> Facts:
    packages = [("packages", view.digest(record.packages))] if record.packages else []
    return Facts("Versions", [*record.code.items(), *record.software.items(), *packages])


def _attempts(record: Run) -> list[Table]:
    rows = [
        [view.moment(one.started), view.moment(one.ended), view.badge(one.state), view.text(one.error)]
        for one in record.attempts
    ]
    return [Table("Earlier tries", ("start", "end", "state", "error"), rows)] if rows else []


def _logs(steps: list[StepRun]) -> list[Facts]:
    logs: list[tuple[str, Any]] = [(step.step, step.log) for step in steps if step.log]
    return [Facts("Logs", logs)] if logs else []
