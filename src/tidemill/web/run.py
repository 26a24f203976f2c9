"""The page of a run, and the page of an artifact with its lineage."""

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
from tidemill.web.view import Cell, Facts, Page, PageTable


def run(site: Site, _: Query, identifier: str) -> Page:
    """Show a run: its cause, code and parameters, its steps and artifacts, its metrics and verdicts."""
    details = read_run_details(site.books, identifier)
    record = details.run
    compared_with = details.compared_with.label if details.compared_with else record.compared_with
    facts = Facts(
        "",
        [
            ("state", view.badge(record.state)),
            ("error", record.error),
            ("model", record.model),
            ("environment", record.environment),
            ("started", view.time(record.started)),
            ("finished", view.time(record.ended)),
            ("duration", view.duration(record.seconds)),
            ("started by", describe_cause(details)),
            ("executor", describe_executor(details)),
            ("release", view.link_release(details.releases[0].label) if details.releases else ""),
            ("compared with", view.link_release(compared_with) if compared_with else ""),
            ("tags", record.tags),
        ],
    )
    return Page(
        title=f"Run of {record.pipeline}",
        lead=record.id,
        data={
            "run": record,
            "steps": details.steps,
            "artifacts": details.artifacts,
            "verdicts": details.verdicts,
            "releases": details.releases,
            "compared_with": details.compared_with,
        },
        parts=[
            facts,
            metric_table(record.metrics),
            verdict_table("Verdicts", details.verdicts, "This run has no verdict."),
            _steps(details.steps),
            _artifacts(details),
            job_table("Started by the job", _find_jobs(site, record)),
            Facts("Parameters", list(record.params.items())),
            _versions(record),
            *_attempts(record),
            *_logs(details.steps),
        ],
    )


def artifact(site: Site, _: Query, identifier: str) -> Page:
    """Show an artifact with its lineage in both directions."""
    record = find_artifact(site.books, identifier)
    if record is None:
        raise NotFound(f"there is no artifact {identifier!r}", "open the page of a run for its artifacts")
    lineages = {
        direction: trace_lineage(site.books, RecordReference("artifact", record.id), direction)
        for direction in _DIRECTIONS
    }
    facts = Facts(
        "",
        [
            ("role", describe_role(record)),
            ("kind", record.kind),
            ("size", format_size(record)),
            ("content", describe_content(record)),
            ("collected", view.time(record.collected)),
        ],
    )
    return Page(
        title=f"Artifact {record.id[:12]}",
        lead=record.id,
        data={"artifact": record, **lineages},
        parts=[
            facts,
            Facts("Summary", list(record.summary.items())),
            *(Facts(title, [("", _format_lineage(lineages[direction]))]) for direction, title in _DIRECTIONS.items()),
        ],
    )


_DIRECTIONS: dict[Any, str] = {"up": "Inputs", "down": "Used by"}


def _format_lineage(lineage: Lineage) -> str:
    return as_text(lineage) + "\n" if lineage.edges else ""


def _find_jobs(site: Site, record: Run) -> list[Any]:
    job = record.started_by.job
    return site.books.jobs.find(id=job, limit=1) if job else []


def _steps(steps: list[StepRun]) -> PageTable:
    has_executors = len(list_executors(steps)) > 1
    rows = [
        [
            view.number(step.position),
            Cell(step.step),
            view.badge(step.state),
            view.text((step.error or step.reason) + (f" (attempt {step.attempt})" if step.attempt > 1 else "")),
            Cell(format_clock(step.started), "time"),
            Cell(format_clock(find_end(step)), "time"),
            view.duration(step.seconds),
            Cell(step.code[:8], "mono", "", step.code),
            *([Cell(step.executor)] if has_executors else []),
        ]
        for step in steps
    ]
    columns = (
        "",
        "step",
        "state",
        "reason",
        "start",
        "end",
        "duration",
        "code",
        *(["executor"] if has_executors else []),
    )
    return PageTable("Steps", columns, rows, "No step started.")


def _artifacts(details: RunDetails) -> PageTable:
    rows = [
        [
            Cell(name),
            Cell(describe_role(artifact)),
            Cell(artifact.id[:12], "mono", view.build_path("artifacts", artifact.id), artifact.id),
            Cell(format_size(artifact), "count"),
            view.text("collected" if artifact.collected else describe_content(artifact)),
        ]
        for name, artifact in details.artifacts.items()
    ]
    return PageTable(
        "Artifacts", ("step.output", "what", "digest", "size", "content"), rows, "This run has no artifacts."
    )


def _versions(record: Run) -> Facts:
    packages = [("packages", view.digest(record.packages))] if record.packages else []
    return Facts("Versions", [*record.code.items(), *record.software.items(), *packages])


def _attempts(record: Run) -> list[PageTable]:
    rows = [
        [view.time(attempt.started), view.time(attempt.ended), view.badge(attempt.state), view.text(attempt.error)]
        for attempt in record.attempts
    ]
    return [PageTable("Earlier attempts", ("start", "end", "state", "error"), rows)] if rows else []


def _logs(steps: list[StepRun]) -> list[Facts]:
    logs: list[tuple[str, Any]] = [(step.step, step.log) for step in steps if step.log]
    return [Facts("Logs", logs)] if logs else []
