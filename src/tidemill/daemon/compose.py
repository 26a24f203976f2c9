"""The composition root: opens a project's session with everything that its steps may ask for."""

from collections.abc import Mapping
from typing import Any

from tidemill.clock import Clock
from tidemill.core import resources
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.featurestore.online import SqliteOnline
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.store.workspace import Workspace


def open_session(
    project: Project,
    environment: str = "production",
    clock: Clock | None = None,
    *,
    workspace: Workspace | None = None,
    given: Mapping[type, Any] | None = None,
) -> Session:
    """The session of a project in an environment; `given` replaces resources."""
    opened = workspace or Workspace(project.state_folder, environment)
    session = Session(project, opened, clock, given)
    session.give(resources.Online, lambda: SqliteOnline(opened.online))
    session.give(resources.Features, lambda: OfflineFeatures(session.sources))
    return session
