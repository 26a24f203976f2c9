"""What differs between two runs: graph, code, parameters, versions, inputs, outputs, metrics, times."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.run import Run, StepRun
from tidemill.evidence.story import Story, last_tries
from tidemill.evidence.words import holds, role_of, size

_DIGEST = 12
GIVEN = "a value"
_WHOLE = "the run"


class Change(Struct, frozen=True):
    """One thing that is not the same: `a` and `b` are its values (None where it is not there).

    `difference` is b - a of numbers; `about` says of artifacts what is in both.
    """

    name: str
    a: Any
    b: Any
    difference: float | None = None
    about: dict[str, Any] = {}


class Diff(Struct, frozen=True, kw_only=True):
    """The differences between two runs by section, each empty where nothing differs; `same` counts what agrees."""

    a: str
    b: str
    run: list[Change]
    graph: list[Change]
    code: list[Change]
    steps: list[Change]
    parameters: list[Change]
    software: list[Change]
    packages: list[Change]
    inputs: list[Change]
    outputs: list[Change]
    metrics: list[Change]
    durations: list[Change]
    same: dict[str, int]


SECTIONS = (
    "run", "graph", "code", "steps", "parameters", "software", "packages", "inputs", "outputs", "metrics", "durations"
)  # fmt: skip


def diff(a: Story, b: Story, packages: tuple[dict[str, str], dict[str, str]] = ({}, {})) -> Diff:
    """What differs between two runs.

    Parameters
    ----------
    packages : every installed package with its version, of either run; empty where that is not known.
    """
    steps_a, steps_b = last_tries(a.steps), last_tries(b.steps)
    sides: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "run": (_facts(a), _facts(b)),
        "graph": (a.run.graph, b.run.graph),
        "code": (a.run.code, b.run.code),
        "steps": (_codes(steps_a), _codes(steps_b)),
        "parameters": (_flat(a.run.params), _flat(b.run.params)),
        "software": (a.run.software, b.run.software),
        "packages": packages if all(packages) else ({}, {}),
        "inputs": (_inputs(steps_a), _inputs(steps_b)),
        "outputs": (_outputs(steps_a), _outputs(steps_b)),
        "metrics": (a.run.metrics, b.run.metrics),
    }
    changes = {name: _changes(*both) for name, both in sides.items()}
    for name in ("inputs", "outputs"):
        changes[name] = [_with_summaries(change, a, b) for change in changes[name]]
    same = {name: len(both[0].keys() & both[1].keys()) - _moved(changes[name]) for name, both in sides.items()}
    durations = _durations(a.run, b.run, steps_a, steps_b)
    return Diff(a=a.run.id, b=b.run.id, durations=durations, same=same, **changes)


def packages_of(listed: bytes) -> dict[str, str]:
    """The versions in a list of installed packages, a line `name==version` for each.

    >>> packages_of(b"numpy==2.4.6\\npolars==2.1.0")
    {'numpy': '2.4.6', 'polars': '2.1.0'}
    """
    lines = (line.partition("==") for line in listed.decode(errors="replace").splitlines())
    return {name: version for name, equals, version in lines if equals}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    names = dict.fromkeys([*a, *b])
    return [_change(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def _change(name: str, a: Any, b: Any) -> Change:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
    return Change(name, a, b, b - a if numbers else None)


def _moved(changes: Iterable[Change]) -> int:
    """How many of them are on both sides."""
    return sum(1 for change in changes if change.a is not None and change.b is not None)


def _facts(story: Story) -> dict[str, Any]:
    run = story.run
    facts = {
        "pipeline": run.pipeline,
        "state": run.state,
        "error": run.error,
        "environment": run.environment,
        "model": run.model,
        "engine": run.engine,
        "host": run.host.partition(":")[0],
        "compared with": story.compared_with.label if story.compared_with else run.compared_with,
        "released": ", ".join(release.label for release in story.releases),
    }
    return facts | {f"tag {name}": value for name, value in run.tags.items()} | _verdicts(story)


def _verdicts(story: Story) -> dict[str, Any]:
    return {f"verdict {one.check} of {one.subject}": f"{one.outcome} → {one.action}" for one in story.verdicts}


def _codes(steps: Mapping[str, StepRun]) -> dict[str, str]:
    return {name: step.code for name, step in steps.items()}


def _inputs(steps: Mapping[str, StepRun]) -> dict[str, str]:
    return {f"{step.step}.{name}": digest for step in steps.values() for name, digest in step.inputs.items()}


def _outputs(steps: Mapping[str, StepRun]) -> dict[str, str]:
    return {f"{step.step}.{name}": digest for step in steps.values() for name, digest in step.outputs.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Parameters with those inside of others, by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
    return flat


def _durations(a: Run, b: Run, steps_a: Mapping[str, StepRun], steps_b: Mapping[str, StepRun]) -> list[Change]:
    """How long the run and each step took: of two runs it is never the same, so all are told."""
    seconds = [(_WHOLE, a.seconds, b.seconds)]
    for name in dict.fromkeys([*steps_a, *steps_b]):
        one, other = steps_a.get(name), steps_b.get(name)
        seconds.append((name, one.seconds if one else None, other.seconds if other else None))
    return [
        Change(
            name,
            x,
            y,
            None if x is None or y is None else y - x,
            {"states": [_state(a, steps_a, name), _state(b, steps_b, name)]},
        )
        for name, x, y in seconds
    ]


def _state(run: Run, steps: Mapping[str, StepRun], name: str) -> str:
    return run.state if name == _WHOLE else steps[name].state if name in steps else ""


def _with_summaries(change: Change, a: Story, b: Story) -> Change:
    """Say of two digests what is behind them: kind, rows, size, and the columns that only one of them has."""
    known = {side: _behind(digest, story) for side, digest, story in (("a", change.a, a), ("b", change.b, b)) if digest}
    about: dict[str, Any] = {side: _said(artifact) for side, artifact in known.items()}
    columns = [_columns(artifact) for artifact in known.values()]
    if len(columns) == 2 and all(columns):
        about["columns gone"], about["columns new"] = sorted(columns[0] - columns[1]), sorted(columns[1] - columns[0])
    return Change(change.name, change.a, change.b, None, {name: value for name, value in about.items() if value})


def _columns(artifact: Artifact | None) -> set[str]:
    """The columns of a table, each with its type where that is known."""
    columns = (artifact.summary.get("columns") if artifact else None) or ()
    return {f"{name} {kind}" for name, kind in columns.items()} if isinstance(columns, dict) else set(map(str, columns))


def _behind(digest: str, story: Story) -> Artifact | None:
    return next((artifact for artifact in story.artifacts.values() if artifact.id == digest), None)


def _said(artifact: Artifact | None) -> str:
    if artifact is None:
        return GIVEN
    return ", ".join(part for part in (role_of(artifact), holds(artifact), size(artifact)) if part)
