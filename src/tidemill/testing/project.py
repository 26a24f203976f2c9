"""Tests of a user's project: that its pipelines can be planned, and that its models are watched."""

from pathlib import Path

from tidemill.clock import SystemClock
from tidemill.flow.plan import plan
from tidemill.project.configuration import FILE, read_policy
from tidemill.project.project import Project


def plan_pipelines(folder: Path) -> list[str]:
    """Plan every pipeline of the project in a folder, without running one; return their names.

    Raises
    ------
    ConfigurationError
        A pipeline cannot be planned.
    """
    project = Project(folder)
    pipelines = project.code.pipelines
    for pipeline in pipelines.values():
        plan(pipeline, {}, project, SystemClock())
    return sorted(pipelines)


def list_unwatched_models(folder: Path) -> list[str]:
    """Return the names of the models whose policy has no watch; their releases get no requests."""
    models = read_policy(folder / FILE).models
    return sorted(name for name, model in models.items() if not model.watch.values)
