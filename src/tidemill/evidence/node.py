"""LineageNode: one record in a lineage, and its description."""

from typing import Any, Literal

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.release import Release
from tidemill.core.run import Run, StepRun
from tidemill.evidence.formatting import describe_content, describe_role, format_duration, format_size, format_time

Kind = Literal[
    "release", "prediction", "predictions", "route", "run", "start", "step", "artifact", "code", "batch", "event"
]
_DIGEST_LENGTH, _RUN_LENGTH = 12, 18


class LineageNode(Struct, frozen=True):
    """One record: its kind, its id, its description, and its facts for programs."""

    kind: Kind
    id: str
    text: str
    facts: dict[str, Any] = {}


def create_artifact_node(digest: str, artifact: Artifact | None, name: str = "") -> LineageNode:
    """Create the node of an artifact; `name` is its step and output."""
    if artifact is None:
        return LineageNode(
            "artifact", digest, _join(f"transient {digest[:_DIGEST_LENGTH]}", name, "never computed"), {"name": name}
        )
    deleted = f"collected {format_time(artifact.collected)}" if artifact.collected else ""
    content = "" if artifact.transient else describe_content(artifact)
    text = _join(f"{describe_role(artifact)} {digest[:_DIGEST_LENGTH]}", name, content, format_size(artifact), deleted)
    return LineageNode("artifact", digest, text, {"name": name, "kind": artifact.kind, "size": artifact.size})


def create_step_node(step: StepRun, note: str = "") -> LineageNode:
    """Create the node of a step of one run."""
    state = (
        f"{step.state} in {format_duration(step.seconds)}"
        if step.state == "ran" and step.seconds is not None
        else step.state
    )
    text = _join(f"step {step.step}", state, f"code {step.code[:8]}", note)
    return LineageNode(
        "step", step.id, text, {"step": step.step, "run": step.run, "state": step.state, "code": step.code}
    )


def create_run_node(run: Run) -> LineageNode:
    """Create the node of a run."""
    text = _join(f"run {run.id[:_RUN_LENGTH]}", run.pipeline, run.state, format_time(run.started))
    return LineageNode(
        "run", run.id, text, {"pipeline": run.pipeline, "state": run.state, "environment": run.environment}
    )


def create_release_node(release: Release, note: str = "") -> LineageNode:
    """Create the node of a release."""
    text = _join(f"release {release.label}", release.flavor, f"created {format_time(release.created)}", note)
    return LineageNode("release", release.label, text, {"package": release.package, "run": release.run})


def _join(*parts: str) -> str:
    return "  ".join(part for part in parts if part)
