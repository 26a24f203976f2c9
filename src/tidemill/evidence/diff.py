"""Compares two runs: graph, code, parameters, versions, inputs, outputs, metrics and durations."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.run import Run, StepRun
from tidemill.evidence.formatting import describe_content, describe_role, format_size
from tidemill.evidence.run_details import RunDetails, find_last_attempts

PLAIN_VALUE = "a value"
_WHOLE_RUN = "the run"


class ChangedValue(Struct, frozen=True):
    """A value that differs: `a` and `b` are its values (None if a run does not have it).

    `difference` is b - a for numbers; `about` describes both artifacts.
    """

    name: str
    a: Any
    b: Any
    difference: float | None = None
    about: dict[str, Any] = {}


class RunDiff(Struct, frozen=True, kw_only=True):
    """The differences between two runs by section; `same` counts the equal values of each section."""

    a: str
    b: str
    run: list[ChangedValue]
    graph: list[ChangedValue]
    code: list[ChangedValue]
    steps: list[ChangedValue]
    parameters: list[ChangedValue]
    software: list[ChangedValue]
    packages: list[ChangedValue]
    inputs: list[ChangedValue]
    outputs: list[ChangedValue]
    metrics: list[ChangedValue]
    durations: list[ChangedValue]
    same: dict[str, int]


SECTIONS = (
    "run", "graph", "code", "steps", "parameters", "software", "packages", "inputs", "outputs", "metrics", "durations"
)  # fmt: skip


def compare_runs(a: RunDetails, b: RunDetails, packages: tuple[dict[str, str], dict[str, str]] = ({}, {})) -> RunDiff:
    """Compare two runs.

    Parameters
    ----------
    packages : the installed packages of each run with their versions; empty if unknown.
    """
    steps_a, steps_b = find_last_attempts(a.steps), find_last_attempts(b.steps)
    sides: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "run": (_collect_facts(a), _collect_facts(b)),
        "graph": (a.run.graph, b.run.graph),
        "code": (a.run.code, b.run.code),
        "steps": (_collect_codes(steps_a), _collect_codes(steps_b)),
        "parameters": (_flatten(a.run.params), _flatten(b.run.params)),
        "software": (a.run.software, b.run.software),
        "packages": packages if all(packages) else ({}, {}),
        "inputs": (_collect_inputs(steps_a), _collect_inputs(steps_b)),
        "outputs": (_collect_outputs(steps_a), _collect_outputs(steps_b)),
        "metrics": (a.run.metrics, b.run.metrics),
    }
    changes = {name: _find_changes(*pair) for name, pair in sides.items()}
    for name in ("inputs", "outputs"):
        changes[name] = [_describe_artifacts(change, a, b) for change in changes[name]]
    same = {name: len(pair[0].keys() & pair[1].keys()) - _count_in_both(changes[name]) for name, pair in sides.items()}
    durations = _compare_durations(a.run, b.run, steps_a, steps_b)
    return RunDiff(a=a.run.id, b=b.run.id, durations=durations, same=same, **changes)


def parse_packages(content: bytes) -> dict[str, str]:
    """Parse a list of installed packages with one line `name==version` for each.

    >>> parse_packages(b"numpy==2.4.6\\npolars==2.1.0")
    {'numpy': '2.4.6', 'polars': '2.1.0'}
    """
    lines = (line.partition("==") for line in content.decode(errors="replace").splitlines())
    return {name: version for name, equals, version in lines if equals}


def _find_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[ChangedValue]:
    names = dict.fromkeys([*a, *b])
    return [_compare_value(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def _compare_value(name: str, a: Any, b: Any) -> ChangedValue:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
    return ChangedValue(name, a, b, b - a if numbers else None)


def _count_in_both(changes: Iterable[ChangedValue]) -> int:
    """Return how many of the changed values both runs have."""
    return sum(1 for change in changes if change.a is not None and change.b is not None)


def _collect_facts(details: RunDetails) -> dict[str, Any]:
    run = details.run
    facts = {
        "pipeline": run.pipeline,
        "state": run.state,
        "error": run.error,
        "environment": run.environment,
        "model": run.model,
        "engine": run.engine,
        "host": run.host.partition(":")[0],
        "compared with": details.compared_with.label if details.compared_with else run.compared_with,
        "released": ", ".join(release.label for release in details.releases),
    }
    return facts | {f"tag {name}": value for name, value in run.tags.items()} | _collect_verdicts(details)


def _collect_verdicts(details: RunDetails) -> dict[str, Any]:
    return {
        f"verdict {verdict.check} of {verdict.subject}": f"{verdict.outcome} → {verdict.action}"
        for verdict in details.verdicts
    }


def _collect_codes(steps: Mapping[str, StepRun]) -> dict[str, str]:
    return {name: step.code for name, step in steps.items()}


def _collect_inputs(steps: Mapping[str, StepRun]) -> dict[str, str]:
    return {f"{step.step}.{name}": digest for step in steps.values() for name, digest in step.inputs.items()}


def _collect_outputs(steps: Mapping[str, StepRun]) -> dict[str, str]:
    return {f"{step.step}.{name}": digest for step in steps.values() for name, digest in step.outputs.items()}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return parameters with nested ones under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
        )
    return flat


def _compare_durations(
    a: Run, b: Run, steps_a: Mapping[str, StepRun], steps_b: Mapping[str, StepRun]
) -> list[ChangedValue]:
    """Return the durations of the run and of each step, including equal ones."""
    seconds = [(_WHOLE_RUN, a.seconds, b.seconds)]
    for name in dict.fromkeys([*steps_a, *steps_b]):
        step_a, step_b = steps_a.get(name), steps_b.get(name)
        seconds.append((name, step_a.seconds if step_a else None, step_b.seconds if step_b else None))
    return [
        ChangedValue(
            name,
            x,
            y,
            None if x is None or y is None else y - x,
            {"states": [_find_state(a, steps_a, name), _find_state(b, steps_b, name)]},
        )
        for name, x, y in seconds
    ]


def _find_state(run: Run, steps: Mapping[str, StepRun], name: str) -> str:
    return run.state if name == _WHOLE_RUN else steps[name].state if name in steps else ""


def _describe_artifacts(change: ChangedValue, a: RunDetails, b: RunDetails) -> ChangedValue:
    """Add descriptions of two artifacts to a change: kind, rows, size, and the columns that only one of them has."""
    artifacts = {
        side: _find_by_digest(digest, details)
        for side, digest, details in (("a", change.a, a), ("b", change.b, b))
        if digest
    }
    about: dict[str, Any] = {side: _describe(artifact) for side, artifact in artifacts.items()}
    columns = [_list_columns(artifact) for artifact in artifacts.values()]
    if len(columns) == 2 and all(columns):
        about["columns gone"], about["columns new"] = sorted(columns[0] - columns[1]), sorted(columns[1] - columns[0])
    return ChangedValue(change.name, change.a, change.b, None, {name: value for name, value in about.items() if value})


def _list_columns(artifact: Artifact | None) -> set[str]:
    """Return the columns of a table, each with its type if known."""
    columns = (artifact.summary.get("columns") if artifact else None) or ()
    return {f"{name} {kind}" for name, kind in columns.items()} if isinstance(columns, dict) else set(map(str, columns))


def _find_by_digest(digest: str, details: RunDetails) -> Artifact | None:
    return next((artifact for artifact in details.artifacts.values() if artifact.id == digest), None)


def _describe(artifact: Artifact | None) -> str:
    if artifact is None:
        return PLAIN_VALUE
    return ", ".join(
        part for part in (describe_role(artifact), describe_content(artifact), format_size(artifact)) if part
    )
