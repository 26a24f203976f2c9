"""Prints the differences between two runs."""

import re
from itertools import zip_longest
from typing import Any

from tidemill.cli import output
from tidemill.cli.run_page import table, title
from tidemill.evidence.diff import PLAIN_VALUE, SECTIONS, ChangedValue, RunDiff
from tidemill.evidence.formatting import format_duration, format_number

_TITLES = {
    "run": "Run",
    "graph": "Graph (step: what it needs)",
    "code": "Project",
    "steps": "Code of steps",
    "parameters": "Parameters",
    "software": "Python and main packages",
    "packages": "All packages",
    "inputs": "Inputs of steps",
    "outputs": "Outputs",
    "metrics": "Metrics",
}
_MAX_LENGTH = 40
_DIGEST = re.compile("[0-9a-f]{40,64}")


def show(diff: RunDiff) -> None:
    """Print each section in which two runs differ, and their durations."""
    output.out.print(f"a  run {diff.a}\nb  run {diff.b}")
    unpaired = {change.name for change in diff.steps if change.a is None or change.b is None}
    _only_in("a", [change.name for change in diff.steps if change.b is None])
    _only_in("b", [change.name for change in diff.steps if change.a is None])
    equal = []
    for section in SECTIONS[:-1]:
        changes: list[ChangedValue] = getattr(diff, section)
        if section in ("steps", "graph", "inputs", "outputs"):
            changes = [change for change in changes if change.name.partition(".")[0] not in unpaired]
        if section == "inputs":  # values from other steps are in the section of outputs
            changes = [change for change in changes if PLAIN_VALUE in change.about.values()]
        if not changes:
            equal += [f"{_TITLES[section].partition(' (')[0].lower()} ({diff.same[section]})"] * bool(
                diff.same[section]
            )
            continue
        title(_TITLES[section])
        if section == "outputs":
            table(["step.name", "a", "b", "content"], [_artifacts(change) for change in changes])
        elif section == "metrics":
            table(["metric", "a", "b", "b - a"], [_metric(change) for change in changes])
        else:
            table(["name", "a", "b"], [[change.name, _format(change.a), _format(change.b)] for change in changes])
    title("Durations")
    table(["step", "a", "b", "states"], [_duration(change) for change in diff.durations])
    if equal:
        output.out.print(f"\nequal: {', '.join(equal)}")


def _only_in(side: str, names: list[str]) -> None:
    if names:
        output.out.print(f"only in {side}: {', '.join(names)}")


def _artifacts(change: ChangedValue) -> list[str]:
    about = change.about
    parts = zip_longest(*(str(about[side]).split(", ") for side in ("a", "b") if side in about), fillvalue="–")
    content = ", ".join(" → ".join(dict.fromkeys(part)) for part in parts)
    columns = [f"{name} {', '.join(map(str, diff))}" for name, diff in about.items() if name.startswith("columns ")]
    return [change.name, _format(change.a)[:8], _format(change.b)[:8], "; ".join([content, *columns])]


def _metric(change: ChangedValue) -> list[str]:
    difference = "" if change.difference is None else f"{change.difference:+.4f}"
    return [change.name, format_number(change.a), format_number(change.b), difference]


def _duration(change: ChangedValue) -> list[str]:
    states = dict.fromkeys(state for state in change.about.get("states", ()) if state)
    return [change.name, format_duration(change.a), format_duration(change.b), " → ".join(states)]


def _format(value: Any) -> str:
    text = "–" if value is None or value == "" else output.format_cell(value)
    if _DIGEST.fullmatch(text):
        return text[:12]
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"
