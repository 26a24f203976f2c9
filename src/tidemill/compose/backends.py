"""Back ends: opens every store by its URL; other packages add a kind of store by the scheme of its URL.

Each kind of store has a group of entry points, `tidemill.ledgers`, `tidemill.blobs`, `tidemill.journals`,
`tidemill.tables`, `tidemill.online_stores` and `tidemill.boards`. The name of an entry point is the scheme of a URL,
and its object is a function that opens a store at a URL: `redis = "my_package:open_online"` opens
`TIDEMILL_ONLINE=redis://host/0`.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidemill.blobs.packages import BlobPackages
from tidemill.blobs.store import Blobs, open_blobs
from tidemill.clock import Clock
from tidemill.core.fleet import Fleet
from tidemill.core.resources import Board, Journal, Online, PackageStore, RecordedSources, Tables
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.errors import InputError
from tidemill.ledger.database import Database, open_database
from tidemill.plugin import list_names, load
from tidemill.project.project import Project
from tidemill.workspace.workspace import STORES, Workspace

Opener = Callable[[str], Any]
_DATABASES = ("sqlite", "postgresql", "postgresql+psycopg")


def open_workspace(
    root: Path, environment: str = "production", *, urls: Mapping[str, str] | None = None, create: bool = True
) -> Workspace:
    """Open the workspace in a folder; settings such as `TIDEMILL_LEDGER` are the URLs of stores outside the folder.

    Without `create`, a workspace that does not exist is not created. `urls` replaces the settings. A temporary
    workspace has `{}`, so that it never writes to the stores of a project.
    """
    return Workspace(root, environment, UrlBackEnds(), settings() if urls is None else urls, create=create)


def open_sources(
    folder: Path,
    sources: dict[str, Source],
    frames: Mapping[str, Any] | None = None,
    accepted: Callable[[], set[str]] = set,
    withdrawn: Callable[[], set[str]] = set,
    labels: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None,
    schemas: Callable[[str], Schema | None] = lambda _: None,
    data: Path | None = None,
) -> RecordedSources:
    """Open the sources of a project, some replaced by `frames`.

    `accepted` and `withdrawn` return the ids of accepted and of withdrawn batches; `labels` are the label columns of
    each source, with the spellings of their classes. `schemas` returns the newest accepted schema of a source. Relative
    paths of sources start in the folder `data`, by default in the folder of the project.
    """
    # Imported late: it imports Polars, which many pipelines do not need.
    from tidemill.data.source import FileSources

    return FileSources(folder, sources, frames, accepted, withdrawn, labels, schemas, data)


def open_fleet(project: Project, workspace: Workspace, clock: Clock) -> Fleet:
    """Open the deployed processes of a project; a target of another package is an entry point of `tidemill.targets`."""
    from tidemill.compose.signing import KeySigner
    from tidemill.delivery.container import ContainerTarget
    from tidemill.delivery.fleet import DeploymentFleet
    from tidemill.delivery.image_signature import require_signed_image
    from tidemill.delivery.kubernetes import KubernetesTarget
    from tidemill.delivery.local import LocalTarget
    from tidemill.delivery.oci import Layout
    from tidemill.delivery.ray_job import RayTarget

    registry, images = project.policy.ci.registry, workspace.root / "ci" / "images"

    def verify_image(name: str, digest: str) -> None:
        require_signed_image(KeySigner(project, workspace), Layout(images), name, digest, registry)

    targets: dict[str, Callable[[Path], Any]] = {
        "local": LocalTarget,
        "container": lambda root: ContainerTarget(root, images, registry),
        "ray": RayTarget,
        "kubernetes": lambda _: KubernetesTarget(registry, project.name),
    }
    targets |= {name: load("targets", name) for name in list_names("targets") if name not in targets}
    stores = (workspace.root, project.data_folder, workspace.blobs.get)
    return DeploymentFleet(project.policy, *stores, clock, targets, project.folder, verify_image)


def settings() -> dict[str, str]:
    """Return the URLs of stores that environment variables such as `TIDEMILL_LEDGER` set."""
    urls = {store: os.environ.get(f"TIDEMILL_{store.upper()}", "") for store in STORES}
    return {store: url for store, url in urls.items() if url}


class UrlBackEnds:
    """Opens stores by their URLs; libraries are imported late, because many commands do not need them."""

    def ledger(self, url: str) -> Database:
        database: Database = _open("ledgers", url, dict.fromkeys(_DATABASES, open_database))
        return database

    def blobs(self, url: str) -> Blobs:
        blobs: Blobs = _open("blobs", url, {}, default=open_blobs)
        return blobs

    def packages(self, blobs: Blobs) -> PackageStore:
        return BlobPackages(blobs)

    def journal(self, url: str) -> Journal:
        journal: Journal = _open("journals", url, {"file": _file_journal})
        return journal

    def tables(self, url: str) -> Tables:
        tables: Tables = _open("tables", url, {"file": _delta_tables})
        return tables

    def online(self, url: str) -> Online:
        online: Online = _open("online_stores", url, {"sqlite": _sqlite_online})
        return online

    def board(self, url: str) -> Board:
        board: Board = _open("boards", url, {"file": _file_board})
        return board


def _open(kind: str, url: str, built_in: Mapping[str, Opener], default: Opener | None = None) -> Any:
    """Open the store at a URL with the function for its scheme; a path without a scheme is a folder, like `file:`."""
    scheme = url.partition(":")[0] if "://" in url else "file"
    if scheme in built_in:
        return built_in[scheme](url)
    plugins = sorted(list_names(kind))
    if scheme in plugins:
        return load(kind, scheme)(url)
    if default is not None:
        return default(url)
    schemes = ", ".join(f"{name}:" for name in [*built_in, *plugins])
    raise InputError(
        f"no back end of {kind.replace('_', ' ')} opens {scheme}: URLs",
        f"use one of {schemes}, or install the package that offers it as the entry point tidemill.{kind}",
    )


def _folder(url: str) -> Path:
    return Path(url.removeprefix("file://"))


def _file_journal(url: str) -> Journal:
    from tidemill.journal.files import FileJournal

    return FileJournal(_folder(url), durable=True)


def _delta_tables(url: str) -> Tables:
    from tidemill.journal.tables import DeltaTables

    return DeltaTables(str(_folder(url)))


def _file_board(url: str) -> Board:
    from tidemill.journal.board import FileBoard

    return FileBoard(_folder(url))


def _sqlite_online(url: str) -> Online:
    from tidemill.featurestore.online import SqliteOnline

    return SqliteOnline(Path(url.removeprefix("sqlite:///")))
