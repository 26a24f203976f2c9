"""The composition root: opens a project's session with everything that its steps may ask for."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tidemill.clock import Clock
from tidemill.core import resources
from tidemill.core.metric import Metric, MetricVersion
from tidemill.core.policy import Policy
from tidemill.errors import NotFound
from tidemill.featurestore.online import SqliteOnline
from tidemill.flow.session import Session
from tidemill.host.fresh import FreshProcesses
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
    session.give(resources.Features, lambda: _features(session))
    session.give(resources.OwnMetrics, lambda: _Metrics(session))
    session.give(resources.Environments, lambda: FreshProcesses(opened.root / "packages"))
    if clock is None and not given:
        session.reopen = partial(_reopen, project.folder, project.policy, environment, opened.root, opened.blobs_url)
    return session


class _Metrics:
    """The metrics of a project's code; their versions are the digests of their code."""

    writable: ClassVar[bool] = False

    def __init__(self, session: Session) -> None:
        self._session = session

    def versions(self) -> list[MetricVersion]:
        found = sorted(self._session.project.code.metrics.values(), key=lambda one: one.name)
        return [
            MetricVersion(
                name=one.name,
                version=self._session.fingerprint(one.function)[:16],
                greater_is_better=one.greater_is_better,
            )
            for one in found
        ]

    def metric(self, name: str) -> Metric:
        known = self._session.project.code.metrics
        if name not in known:
            raise NotFound(f"pipeline.py defines no metric {name!r}", f"it defines: {', '.join(known) or 'none'}")
        return known[name]


def _features(session: Session) -> resources.Features:
    # Imported late: it brings NumPy and Polars, for which a run without features need not wait.
    from tidemill.featurestore.offline import OfflineFeatures

    return OfflineFeatures(session.sources)


def _reopen(folder: Path, policy: Policy, environment: str, root: Path, blobs: str) -> Session:
    """The same session in another process."""
    return open_session(Project(folder, policy), environment, workspace=Workspace(root, environment, blobs=blobs))
