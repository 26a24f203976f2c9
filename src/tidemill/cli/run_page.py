"""How a run is shown in a terminal: headings and aligned columns, readable on a hundred of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from tidemill.cli import output
from tidemill.core.run import Run, StepRun
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


def show(story: RunDetails) -> None:
    """A run, section by section."""
    run = story.run
    took = f" in {format_duration(run.seconds)}" if run.seconds is not None else ""
    output.out.print(f"{run.pipeline}  {run.state}{took}", style="bold")
    facts(
        [
            ("run", run.id),
            ("error", run.error),
            ("environment", run.environment),
            ("started", format_time(run.started)),
            ("ended", format_time(run.ended)),
            ("started by", describe_cause(story)),
            ("executor", describe_executor(story)),
            ("model", run.model),
            ("released", ", ".join(release.label for release in story.releases)),
            ("compared with", _compared(story)),
            ("tags", pairs(run.tags)),
        ]
    )
    section("Versions", _versions(run))
    section("Parameters", [(name, output.cell(value)) for name, value in run.params.items()])
    _metrics(run.metrics)
    _verdicts(story)
    _steps(story.steps)
    _artifacts(story)
    _attempts(run)


def _compared(story: RunDetails) -> str:
    release = story.compared_with
    if release is None:
        return story.run.compared_with
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


def _metrics(found: dict[str, float]) -> None:
    if not found:
        return
    title("Metrics")
    sets = [about for about in ("test", "train") if any(name.startswith(f"{about}_") for name in found)]
    names = list(dict.fromkeys(name.partition("_")[2] for name in found if name.partition("_")[0] in sets))
    rows = [[name, *(format_number(found.get(f"{about}_{name}")) for about in sets)] for name in names]
    rows += [[name, format_number(value)] for name, value in found.items() if name.partition("_")[0] not in sets]
    table(["metric", *(sets or ["value"])], rows)


def _verdicts(story: RunDetails) -> None:
    if story.verdicts:
        title("Verdicts")
        rows = [[v.check, v.outcome, v.action, f"{v.subject}: {v.reason}"] for v in story.verdicts]
        table(["check", "outcome", "calls for", "why"], rows)


def _steps(steps: list[StepRun]) -> None:
    title("Steps")
    if not steps:
        output.out.print("  no step began")
        return
    elsewhere = len(list_executors(steps)) > 1
    columns = ["step", "state", "start", "end", "took", "code", *(["executor"] if elsewhere else []), "because"]
    rows = []
    for step in steps:
        why = step.error or step.reason
        tried = f" (try {step.attempt})" if step.attempt > 1 else ""
        took = format_duration(step.seconds)
        cells = [step.step, step.state, format_clock(step.started), format_clock(find_end(step)), took, step.code[:8]]
        rows.append([*cells, *([step.executor] if elsewhere else []), why + tried])
    table(columns, rows)


def _artifacts(story: RunDetails) -> None:
    if not story.artifacts:
        return
    title("Artifacts")
    rows = []
    for name, artifact in story.artifacts.items():
        pointer = artifact.digest[:_DIGEST] + (" (collected)" if artifact.collected else "")
        rows.append([name, describe_role(artifact), format_size(artifact), pointer, describe_content(artifact)])
    table(["step.output", "what", "size", "digest", "holds"], rows)


def _attempts(run: Run) -> None:
    if run.attempts:
        title("Attempts")
        rows = [
            [
                format_clock(tried.started),
                format_clock(tried.ended),
                tried.state,
                str(tried.code.get("digest", ""))[:8],
                tried.error,
            ]
            for tried in run.attempts
        ]
        table(["start", "end", "state", "code", "error"], rows)


def section(heading: str, known: list[tuple[str, str]]) -> None:
    """A heading with the facts that are known under it; nothing where none is."""
    if any(value for _, value in known):
        title(heading)
        facts(known)


def title(heading: str) -> None:
    """A heading, apart from what is above."""
    output.out.print(f"\n{heading}", style="bold")


def facts(known: Iterable[tuple[str, str]]) -> None:
    """Names and values in two columns, without those that are empty."""
    table([], [[name, value] for name, value in known if value])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table under a heading."""
    output.table(columns, rows, indent=2)


def pairs(values: dict[str, Any]) -> str:
    """Names with their values on one line."""
    return "  ".join(f"{name}={value}" for name, value in values.items())
