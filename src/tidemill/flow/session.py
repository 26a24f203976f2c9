"""A session: a project with its workspace and clock, and the resources that steps ask for by type."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tidemill.clock import Clock, SystemClock
from tidemill.core import resources
from tidemill.data.source import FileSources
from tidemill.project.code import state_of
from tidemill.project.project import Project
from tidemill.store.packages import BlobPackages
from tidemill.store.workspace import Workspace


class Session:
    """Opens what runs need; `given` replaces resources (a replay brings its own sources)."""

    def __init__(
        self,
        project: Project,
        workspace: Workspace,
        clock: Clock | None = None,
        given: Mapping[type, Any] | None = None,
    ) -> None:
        self.project = project
        self.workspace = workspace
        self.clock = clock or SystemClock()
        self._given = dict(given or {})

    @cached_property
    def code_state(self) -> dict[str, Any]:
        """The state of the project's code when the session began."""
        return state_of(self.project.folder)

    @cached_property
    def packages(self) -> BlobPackages:
        return BlobPackages(self.workspace.blobs)

    @cached_property
    def sources(self) -> resources.Sources:
        given: resources.Sources | None = self._given.get(resources.Sources)
        return given or FileSources(self.project.folder, self.project.policy.sources)

    def resource(self, kind: type) -> Any:
        """The resource of a type."""
        if kind in self._given:
            return self._given[kind]
        workspace = self.workspace
        if kind is Clock:
            return self.clock
        if kind is resources.Sources:
            return self.sources
        if kind is resources.Packages:
            return self.packages
        if kind is resources.Books:
            return workspace.ledger
        if kind in (resources.Tables, resources.TableReader):
            return workspace.tables
        if kind in (resources.Journal, resources.JournalReader):
            return workspace.journal
        assert kind is resources.Board, kind
        return workspace.board


READABLE = (
    Clock,
    resources.Sources,
    resources.Features,
    resources.TableReader,
    resources.JournalReader,
    resources.Packages,
)
WRITABLE = (resources.Online, resources.Books, resources.Tables, resources.Journal, resources.Board, resources.Context)


def is_resource(hint: Any) -> bool:
    """Whether a parameter of this type is filled by the engine."""
    return hint in READABLE or hint in WRITABLE
