"""Sessions: a project in an environment, with the resources that its steps can use."""

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tidemill.clock import Clock
from tidemill.compose.backends import open_fleet, open_sources, open_workspace
from tidemill.compose.signing import KeySigner, SignedPackages
from tidemill.core import resources
from tidemill.core.ci import BuildHost
from tidemill.core.engine import StepImages
from tidemill.core.fleet import Fleet
from tidemill.core.metric import Metric, MetricVersion, ProjectMetrics
from tidemill.core.pipeline import Pipeline
from tidemill.core.policy import Policy
from tidemill.core.probe import Environments
from tidemill.core.schema import Schema
from tidemill.core.signing import ImageSigner, PackageSigner
from tidemill.errors import NotFound
from tidemill.flow.session import Session
from tidemill.host.prober import PackageProber
from tidemill.ledger.batches import find_withdrawn
from tidemill.project.project import Project
from tidemill.workspace.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl


def open_session(
    project: Project,
    environment: str = "production",
    clock: Clock | None = None,
    *,
    frames: Mapping[str, Any] | None = None,
    workspace: Workspace | None = None,
    replacements: Mapping[type, Any] | None = None,
) -> Session:
    """Open a session of a project in an environment; `replacements` maps resource types to objects for steps.

    `frames` replace the rows of sources, by the names of the sources: frames of Polars, pandas or Arrow, or relations
    of DuckDB. They are copied now; the same rows in a later session are not a new batch.

    Raises
    ------
    NotFound
        if a frame has the name of no source.
    DataError
        if a value is not a frame.
    """
    opened = workspace or open_workspace(project.state_folder, environment)
    polars_frames = _to_polars(frames) if frames else {}
    session = Session(project, opened, clock, dict(replacements or {}))
    sources = partial(
        open_sources,
        project.folder,
        project.policy.sources,
        polars_frames,
        partial(_list_accepted, opened),
        partial(_list_withdrawn, opened),
        project.policy.labels,
        partial(_find_schema, opened),
        project.data_folder,
    )
    session.register(resources.Sources, sources)
    if polars_frames:
        session.resource(resources.Sources)  # a frame with an unknown name is an error now
    session.register(resources.Online, lambda: opened.online)
    session.register(resources.Features, lambda: _features(session))
    session.register(ProjectMetrics, lambda: _CodeMetrics(session))
    session.register(Fleet, lambda: open_fleet(project, opened, session.clock))
    signer = KeySigner(project, opened)
    session.register(PackageSigner, lambda: signer)
    session.register(ImageSigner, lambda: signer)
    if signer.is_required and PackageSigner not in (replacements or {}):
        signed = SignedPackages(opened.packages, signer, lambda: opened.ledger.reader)
        session.register(resources.Packages, lambda: signed)
        session.register(resources.PackageStore, lambda: signed)
    session.register(Environments, lambda: PackageProber(opened.root / "packages"))
    session.register(BuildHost, lambda: _BuildFolder(opened.root / "ci", project.folder, project.name))
    session.register(StepImages, lambda: _open_images(session))
    session.built_in = {"ci": _load_ci, "deployment": _load_deployment, "upgrade": _load_upgrade}
    if clock is None and not replacements:
        session.reopen = partial(
            _reopen, project.folder, project.policy, environment, opened.root, opened.urls, polars_frames
        )
    return session


def open_history(project: Project, environment: str = "production") -> resources.RecordedSources:
    """Open the sources of a project for their whole history, without the batches that a person has withdrawn."""
    workspace = open_workspace(project.state_folder, environment, create=False)
    return open_sources(
        project.folder,
        project.policy.sources,
        accepted=partial(_list_accepted, workspace),
        withdrawn=partial(_list_withdrawn, workspace),
        labels=project.policy.labels,
        schemas=partial(_find_schema, workspace),
        data=project.data_folder,
    )


def predict(session: Session, rows: Any, model: str = "") -> "pl.DataFrame":
    """Predict the rows of a frame, as `tidemill serve` does. The predictions are written to the journal.

    An unknown column, an absent input, or a value outside its range or domain raises `DataError` with
    `strict = true` under `[serving]`; otherwise it causes a `UserWarning`.

    Parameters
    ----------
    session
        A session of `open_session`.
    rows
        A frame of Polars, pandas or Arrow with the model's inputs, and with its key and event time if it has them.
    model
        The name of the model; the default is the only model of the project.

    Returns
    -------
    polars.DataFrame
        One row for each row, in the same order, with the columns
        `known_at, id, release, version, role, key, time, value, probability, features`.

    Raises
    ------
    NotFound
        The project has no such model.
    Transient
        No release of the model is in production yet.
    DataError
        `rows` is not a frame, or does not fit the model's signature.
    """
    # Imported late: most sessions do not predict.
    from tidemill.data.kinds.frames import to_polars
    from tidemill.featurestore.lookup import Lookup
    from tidemill.serving.service import Service

    workspace = session.workspace
    lookup = Lookup(workspace.online)
    strict = session.project.policy.strict_models
    signer = session.resource(PackageSigner)
    stores = (workspace.board, session.packages, workspace.journal, lookup)
    service = Service(*stores, session.clock, strict=strict, signer=signer)
    service.refresh()
    result = service.predict_request(session.project.model(model).name, to_polars(rows))
    for warning in result.warnings:
        warnings.warn(warning.message, stacklevel=2)
    return result.rows


def _to_polars(frames: Mapping[str, Any]) -> dict[str, "pl.DataFrame"]:
    from tidemill.data.kinds.frames import to_polars

    return {name: to_polars(frame) for name, frame in frames.items()}


def _list_accepted(workspace: Workspace) -> set[str]:
    """Return the ids of the accepted batches."""
    return workspace.ledger.verdicts.values(
        "subject", check="schema", action="proceed", environment=workspace.environment
    )


def _list_withdrawn(workspace: Workspace) -> set[str]:
    """Return the ids of the batches that a person has withdrawn."""
    return set(find_withdrawn(workspace.ledger, workspace.environment))


def _find_schema(workspace: Workspace, source: str) -> Schema | None:
    """Return the newest accepted schema of a source."""
    versions = workspace.ledger.schemas.find(source=source)
    return max(versions, key=lambda version: version.version).schema if versions else None


class _CodeMetrics:
    """The metrics of a project's code; the version of a metric is the digest of its code."""

    writable: ClassVar[bool] = False

    def __init__(self, session: Session) -> None:
        self._session = session

    def versions(self) -> list[MetricVersion]:
        metrics = sorted(self._session.project.code.metrics.values(), key=lambda metric: metric.name)
        return [
            MetricVersion(
                name=metric.name,
                version=self._session.fingerprint(metric.function)[:16],
                greater_is_better=metric.greater_is_better,
            )
            for metric in metrics
        ]

    def metric(self, name: str) -> Metric:
        metrics = self._session.project.code.metrics
        if name not in metrics:
            raise NotFound(
                f"pipeline.py has no metric {name!r}", f"use one of its metrics: {', '.join(metrics) or 'none'}"
            )
        return metrics[name]


class _BuildFolder:
    """The part of the workspace in which commits are built."""

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path, project: Path, name: str) -> None:
        self.folder = folder.absolute()
        self.project = project
        self.name = name


def _load_ci() -> Pipeline:
    # Imported late: only runs of CI need it.
    from tidemill.recipes.ci import ci

    return ci


def _load_upgrade() -> Pipeline:
    from tidemill.recipes.upgrading import upgrade

    return upgrade


def _load_deployment() -> Pipeline:
    from tidemill.recipes.deploying import deployment

    return deployment


def _open_images(session: Session) -> StepImages:
    # Imported late: only the engine `container` needs it.
    from tidemill.compose.images import BuildImages

    return BuildImages(session)


def _features(session: Session) -> resources.Features:
    # Imported late: it imports NumPy and Polars, which a run without features does not need.
    from tidemill.featurestore.offline import OfflineFeatures

    return OfflineFeatures(session.sources)


def _reopen(
    folder: Path,
    policy: Policy,
    environment: str,
    root: Path,
    urls: Mapping[str, str],
    frames: dict[str, "pl.DataFrame"],
) -> Session:
    """Open the same session in another process."""
    workspace = open_workspace(root, environment, urls=urls)
    return open_session(Project(folder, policy), environment, frames=frames, workspace=workspace)
