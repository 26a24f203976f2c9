"""Prints the details of a run in sections with aligned columns."""

from collections.abc import Iterable, Sequence
from typing import Any

from tidemill.cli import output
from tidemill.core.run import METRIC_SETS, Run, StepRun
from tidemill.evidence.formatting import (
    describe_content,
    describe_role,
    find_end,
    format_clock,
    format_duration,
    format_number,
    format_size,
    format_time,
)
from tidemill.evidence.run_details import RunDetails, describe_cause, describe_executor, list_executors

_DIGEST = 12


def show(details: RunDetails) -> None:
    """Print the sections of a run."""
    run = details.run
    took = f" in {format_duration(run.seconds)}" if run.seconds is not None else ""
    output.out.print(f"{run.pipeline}  {run.state}{took}", style="bold")
    facts(
        [
            ("run", run.id),
            ("error", run.error),
            ("environment", run.environment),
            ("started", format_time(run.started)),
            ("ended", format_time(run.ended)),
            ("started by", describe_cause(details)),
            ("executor", describe_executor(details)),
            ("model", run.model),
            ("released", ", ".join(release.label for release in details.releases)),
            ("compared with", _format_reference(details)),
            ("tags", format_pairs(run.tags)),
        ]
    )
    section("Versions", _versions(run))
    section("Parameters", [(name, output.format_cell(value)) for name, value in run.params.items()])
    _metrics(run.metrics)
    _verdicts(details)
    _steps(details.steps)
    _artifacts(details)
    _attempts(run)


def _format_reference(details: RunDetails) -> str:
    release = details.compared_with
    if release is None:
        return details.run.compared_with
    return f"{release.label}, package {release.package[:_DIGEST]}" + (f", run {release.run}" if release.run else "")


def _versions(run: Run) -> list[tuple[str, str]]:
    code = run.code
    commit = str(code.get("commit", ""))
    state = f"commit {commit[:_DIGEST]}{' with changes' if code.get('dirty') else ''}" if commit else "no git commit"
    packages = [f"{name} {version}" for name, version in run.software.items()]
    return [
        ("project", f"{state}, code {str(code.get('digest', ''))[:_DIGEST]}"),
        ("policy", str(code.get("policy", ""))[:_DIGEST]),
        ("packages", ", ".join(packages)),
        ("all packages", f"blob {run.packages[:_DIGEST]}" if run.packages else ""),
    ]


def _metrics(metrics: dict[str, float]) -> None:
    if not metrics:
        return
    title("Metrics")
    sets = [about for about in METRIC_SETS if any(name.startswith(f"{about}_") for name in metrics)]
    names = list(dict.fromkeys(name.partition("_")[2] for name in metrics if name.partition("_")[0] in sets))
    rows = [[name, *(format_number(metrics.get(f"{about}_{name}")) for about in sets)] for name in names]
    rows += [[name, format_number(value)] for name, value in metrics.items() if name.partition("_")[0] not in sets]
    table(["metric", *(sets or ["value"])], rows)


def _verdicts(details: RunDetails) -> None:
    if details.verdicts:
        title("Verdicts")
        rows = [[v.check, v.outcome, v.action, f"{v.subject}: {v.reason}"] for v in details.verdicts]
        table(["check", "outcome", "action", "reason"], rows)


def _steps(steps: list[StepRun]) -> None:
    title("Steps")
    if not steps:
        output.out.print("  no step started")
        return
    show_executor = len(list_executors(steps)) > 1
    columns = ["step", "state", "start", "end", "duration", "code", *(["executor"] if show_executor else []), "reason"]
    rows = []
    for step in steps:
        reason = step.error or step.reason
        attempt = f" (try {step.attempt})" if step.attempt > 1 else ""
        duration = format_duration(step.seconds)
        cells = [
            step.step,
            step.state,
            format_clock(step.started),
            format_clock(find_end(step)),
            duration,
            step.code[:8],
        ]
        rows.append([*cells, *([step.executor] if show_executor else []), reason + attempt])
    table(columns, rows)


def _artifacts(details: RunDetails) -> None:
    if not details.artifacts:
        return
    title("Artifacts")
    rows = []
    for name, artifact in details.artifacts.items():
        pointer = artifact.digest[:_DIGEST] + (" (collected)" if artifact.collected else "")
        rows.append([name, describe_role(artifact), format_size(artifact), pointer, describe_content(artifact)])
    table(["step.output", "what", "size", "digest", "content"], rows)


def _attempts(run: Run) -> None:
    if run.attempts:
        title("Attempts")
        rows = [
            [
                format_clock(attempt.started),
                format_clock(attempt.ended),
                attempt.state,
                str(attempt.code.get("digest", ""))[:8],
                attempt.error,
            ]
            for attempt in run.attempts
        ]
        table(["start", "end", "state", "code", "error"], rows)


def section(heading: str, pairs: list[tuple[str, str]]) -> None:
    """Print a heading and the facts under it, or nothing if all facts are empty."""
    if any(value for _, value in pairs):
        title(heading)
        facts(pairs)


def title(heading: str) -> None:
    """Print a heading after an empty line."""
    output.out.print(f"\n{heading}", style="bold")


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns, without empty values."""
    table([], [[name, value] for name, value in pairs if value])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table under a heading."""
    output.print_table(columns, rows, indent=2)


def format_pairs(values: dict[str, Any]) -> str:
    """Return names and values on one line."""
    return "  ".join(f"{name}={value}" for name, value in values.items())
