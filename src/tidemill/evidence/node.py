"""Node: one thing in a lineage, and how it is said."""

from typing import Any, Literal

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.release import Release
from tidemill.core.run import Run, StepRun
from tidemill.evidence.words import holds, moment, role_of, seconds, size

Kind = Literal[
    "release", "prediction", "predictions", "route", "run", "start", "step", "artifact", "code", "batch", "event"
]
_DIGEST, _RUN = 12, 18


class Node(Struct, frozen=True):
    """One thing: its kind, its id, what is said of it, and the facts that programs ask for."""

    kind: Kind
    id: str
    text: str
    facts: dict[str, Any] = {}


def artifact_node(digest: str, artifact: Artifact | None, name: str = "") -> Node:
    """An artifact; `name` is the step and the output that it came by."""
    if artifact is None:
        return Node("artifact", digest, _joined(f"transient {digest[:_DIGEST]}", name, "never made"), {"name": name})
    gone = f"collected {moment(artifact.collected)}" if artifact.collected else ""
    inside = "" if artifact.transient else holds(artifact)
    text = _joined(f"{role_of(artifact)} {digest[:_DIGEST]}", name, inside, size(artifact), gone)
    return Node("artifact", digest, text, {"name": name, "kind": artifact.kind, "size": artifact.size})


def step_node(step: StepRun, note: str = "") -> Node:
    """A step of one run, which a drawing names where it changes."""
    took = (
        f"{step.state} in {seconds(step.seconds)}" if step.state == "ran" and step.seconds is not None else step.state
    )
    text = _joined(f"step {step.step}", took, f"code {step.code[:8]}", note)
    return Node("step", step.id, text, {"step": step.step, "run": step.run, "state": step.state, "code": step.code})


def run_node(run: Run) -> Node:
    """A run as a whole."""
    text = _joined(f"run {run.id[:_RUN]}", run.pipeline, run.state, moment(run.started))
    return Node("run", run.id, text, {"pipeline": run.pipeline, "state": run.state, "environment": run.environment})


def release_node(release: Release, note: str = "") -> Node:
    """A release."""
    text = _joined(f"release {release.label}", release.flavor, f"made {moment(release.created)}", note)
    return Node("release", release.label, text, {"package": release.package, "run": release.run})


def _joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)
