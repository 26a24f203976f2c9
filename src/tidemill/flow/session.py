"""A session: a project with its workspace and clock, and the resources that steps ask for by type."""

import os
import platform
import socket
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

from tidemill.blobs.packages import BlobPackages
from tidemill.clock import Clock, SystemClock
from tidemill.core import resources
from tidemill.core.pipeline import Node, Step
from tidemill.core.policy import ModelPolicy
from tidemill.flow.fingerprint import fingerprint, fingerprint_of
from tidemill.flow.memory import Memory
from tidemill.flow.tasks import Made, Several, Task
from tidemill.host.git import code_of, commit_of
from tidemill.host.python import installed
from tidemill.project.project import Project
from tidemill.workspace.workspace import Workspace

_MAIN = ("tidemill", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "scipy")


class Session:
    """Opens what runs need; `given` replaces resources (a replay brings its own sources).

    `reopen` opens the same session in another process, where there is a way to. `memory` has what other workspaces made
    of the same history, if it is shared with any.
    """

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
        self._open: dict[type, Any] = dict(given or {})
        self.engines: dict[str, Any] = {}
        self.reopen: Callable[[], Session] | None = None
        self.memory: Memory | None = None
        self._fingerprints: dict[Callable[..., Any] | str, str] = {}
        self._openers: dict[type, Callable[[], Any]] = {
            Clock: lambda: self.clock,
            resources.Sources: lambda: self.sources,
            resources.Packages: lambda: self.packages,
            resources.PackageStore: lambda: self.packages,
            resources.Books: lambda: workspace.ledger,
            resources.Tables: lambda: workspace.tables,
            resources.TableReader: lambda: workspace.tables,
            resources.Journal: lambda: workspace.journal,
            resources.JournalReader: lambda: workspace.journal,
            resources.Board: lambda: workspace.board,
        }

    def give(self, kind: type, opener: Callable[[], Any]) -> None:
        """Say how a resource is opened that belongs to a room above the engine."""
        self._openers[kind] = opener

    def resource(self, kind: type) -> Any:
        """The resource of a type, opened when it is first asked for."""
        if kind not in self._open:
            self._open[kind] = self._openers[kind]()
        return self._open[kind]

    @cached_property
    def code_state(self) -> dict[str, Any]:
        """The state of the project's code when the session began; `snapshot` is the digest of a blob with all of it."""
        code = code_of(self.project.folder)
        snapshot = self.workspace.blobs.put(code.packed)
        return {"digest": code.digest, **commit_of(self.project.folder), "snapshot": snapshot}

    @cached_property
    def packages_digest(self) -> str:
        """The digest of a blob that lists every installed package with its version."""
        return self.workspace.blobs.put("\n".join(self._installed).encode())

    @cached_property
    def software(self) -> dict[str, str]:
        """The versions of Python and of the packages that models are made with."""
        versions = dict(package.split("==", 1) for package in self._installed)
        return {"python": platform.python_version()} | {name: versions[name] for name in _MAIN if name in versions}

    @cached_property
    def _installed(self) -> list[str]:
        return installed(self.workspace.root)

    @cached_property
    def host(self) -> str:
        """The machine and the process that a run is on."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def fingerprint(self, function: Callable[..., Any]) -> str:
        """The digest of a step's code, as it was when it was first asked for: a session has one state of the code."""
        if function not in self._fingerprints:
            self._fingerprints[function] = fingerprint(function)
        return self._fingerprints[function]

    def _named(self, code: str) -> str:
        """The digest of what `module:Class` names, for the same reason once."""
        if code not in self._fingerprints:
            self._fingerprints[code] = fingerprint_of(code)
        return self._fingerprints[code]

    def declared(self, node: Node) -> list[str]:
        """What the cache key of a call holds beside its code and inputs: what the policy says of the resources that it
        asks for, and the code of the estimator that a policy names.
        """
        hints, given = node.step.hints.items(), node.inputs.items()
        said = [f"{name}:{self.resource(kind).declared}" for name, kind in hints if kind in DECLARED]
        named = {name: one.training.estimator for name, one in given if isinstance(one, ModelPolicy)}
        return said + [f"{name}:{self._named(one)}" for name, one in named.items() if ":" in one]

    @cached_property
    def packages(self) -> BlobPackages:
        return BlobPackages(self.workspace.blobs)

    @cached_property
    def sources(self) -> resources.Sources:
        from tidemill.data.source import FileSources  # with it comes Polars, which many pipelines do without

        given: resources.Sources | None = self._open.get(resources.Sources)
        return given or FileSources(
            self.project.folder, self.project.policy.sources, admitted=partial(admitted, self.workspace)
        )


def admitted(workspace: Workspace) -> set[str]:
    """The ids of the batches that were let in."""
    return workspace.ledger.verdicts.values(
        "subject", check="schema", action="proceed", environment=workspace.environment
    )


READABLE = (
    Clock,
    resources.Sources,
    resources.Features,
    resources.TableReader,
    resources.JournalReader,
    resources.Packages,
    resources.Environments,
    resources.OwnMetrics,
)
DECLARED = (resources.Sources,)
WRITABLE = (
    resources.Books,
    resources.Tables,
    resources.Journal,
    resources.Online,
    resources.PackageStore,
    resources.Board,
    resources.Context,
)


def is_resource(hint: Any) -> bool:
    """Whether a parameter of this type is filled by the engine."""
    return hint in READABLE or hint in WRITABLE


def changes_the_world(step: Step[Any]) -> bool:
    """Whether a step asks for a resource that it can write to: it is never cached, and never done again unasked."""
    return any(hint in WRITABLE for hint in step.hints.values())


def follows_from_inputs(task: Task) -> bool:
    """Whether every workspace with the same history would get the same: nothing in it is made from a journal, which has
    what was predicted there.
    """
    made = [argument.task for argument in task.arguments.values() if isinstance(argument, Made)]
    several = [one for argument in task.arguments.values() if isinstance(argument, Several) for one in argument.members]
    made += [member.task for member in several if isinstance(member, Made)]
    return resources.JournalReader not in task.step.hints.values() and all(map(follows_from_inputs, made))
