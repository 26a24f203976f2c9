"""A session: a project with its workspace and clock, and the resources that steps ask for by type."""

import os
import platform
import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

from tidemill.clock import Clock, SystemClock
from tidemill.core import resources
from tidemill.core.pipeline import Node, Step
from tidemill.core.policy import ModelPolicy
from tidemill.errors import ConfigurationError
from tidemill.flow.fingerprint import fingerprint, fingerprint_of
from tidemill.flow.shared import SharedResults
from tidemill.flow.tasks import Made, Several, Task
from tidemill.host.git import read_commit, snapshot_code
from tidemill.host.python import list_packages
from tidemill.project.project import Project
from tidemill.workspace.workspace import Workspace

_MAIN = ("tidemill", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "scipy")


class Session:
    """Opens what runs need; `given` replaces resources (a replay brings its own sources).

    `reopen` opens the same session in another process, where there is a way to. `shared_results` are the
    results that workspaces with the same history share.
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
        self.shared_results: SharedResults | None = None
        self._fingerprints: dict[Callable[..., Any] | str, str] = {}
        self._openers: dict[type, Callable[[], Any]] = {
            Clock: lambda: self.clock,
            resources.Packages: lambda: self.packages,
            resources.PackageStore: lambda: self.packages,
            resources.Books: lambda: workspace.ledger,
            resources.BooksReader: lambda: workspace.ledger.reader,
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
            if kind not in self._openers:
                known = ", ".join(sorted(port.__name__ for port in self._openers))
                raise ConfigurationError(
                    f"a step asks for the resource {kind.__name__}, which this session does not open",
                    f"ask for one of: {known}",
                )
            self._open[kind] = self._openers[kind]()
        return self._open[kind]

    @cached_property
    def code_state(self) -> dict[str, Any]:
        """The state of the project's code when the session began; `snapshot` is the digest of a blob with all of it."""
        code = snapshot_code(self.project.folder)
        snapshot = self.workspace.blobs.put(code.archive)
        return {"digest": code.digest, **read_commit(self.project.folder), "snapshot": snapshot}

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
        return list_packages(self.workspace.root)

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
        declaring = [(name, kind) for name, kind in hints if is_resource(kind) and hasattr(kind, "declared")]
        said = [f"{name}:{self.resource(kind).declared}" for name, kind in declaring]
        named = {name: one.training.estimator for name, one in given if isinstance(one, ModelPolicy)}
        return said + [f"{name}:{self._named(one)}" for name, one in named.items() if ":" in one]

    @property
    def packages(self) -> resources.PackageStore:
        return self.workspace.packages

    @property
    def sources(self) -> resources.Sources:
        sources: resources.Sources = self.resource(resources.Sources)
        return sources


def is_resource(hint: Any) -> bool:
    """Whether the engine fills a parameter of this type: a port says whether it is `writable`."""
    return isinstance(getattr(hint, "writable", None), bool)


def depends_on_the_world(step: Step[Any]) -> Literal["", "reads", "changes"]:
    """How a step depends on more than its cache key: it asks for a writable resource, or for a volatile one.

    Such a step is never cached, and is not run again in order to reproduce a run.
    """
    ports = [hint for hint in step.hints.values() if is_resource(hint)]
    if any(port.writable for port in ports):
        return "changes"
    return "reads" if any(getattr(port, "volatile", False) for port in ports) else ""


def follows_from_inputs(task: Task) -> bool:
    """Whether every workspace with the same history would get the same: nothing in it is made from a journal, which has
    what was predicted there.
    """
    made = [argument.task for argument in task.arguments.values() if isinstance(argument, Made)]
    several = [one for argument in task.arguments.values() if isinstance(argument, Several) for one in argument.members]
    made += [member.task for member in several if isinstance(member, Made)]
    return resources.JournalReader not in task.step.hints.values() and all(map(follows_from_inputs, made))
