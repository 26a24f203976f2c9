"""A session: a project with its workspace, its clock, and the resources that steps request by type."""

import os
import platform
import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

from tidemill.clock import Clock, SystemClock
from tidemill.core import resources
from tidemill.core.pipeline import Node, Pipeline, Step
from tidemill.core.policy import ModelPolicy
from tidemill.errors import ConfigurationError
from tidemill.flow.fingerprint import fingerprint, fingerprint_by_name
from tidemill.flow.shared import SharedResults
from tidemill.flow.tasks import ListValue, Task, TransientValue
from tidemill.host.git import read_commit, snapshot_code
from tidemill.host.python import list_packages
from tidemill.project.names import read_names
from tidemill.project.project import Project
from tidemill.workspace.workspace import Workspace

BUILD_VARIABLE = "TIDEMILL_BUILD"
"""The environment variable with the id of the build that a deployed process runs."""
IMAGE_VARIABLE = "TIDEMILL_IMAGE"
"""The environment variable with the digest of the container image in which a process runs."""
_MAIN = ("tidemill", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "scipy")


class Session:
    """Opens the resources of runs; `given` replaces resources (a replay has its own sources).

    `reopen` opens the same session in another process, if that is possible. `shared_results` are the
    results that workspaces with the same history share. `observe` receives every task that ran in this process, its
    arguments, and the value that its function returned.
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
        self.built_in: Mapping[str, Callable[[], Pipeline]] = {}
        self.observe: Callable[[Task, Mapping[str, Any], Any], None] | None = None
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

    def register(self, kind: type, opener: Callable[[], Any]) -> None:
        """Register the function that opens a resource which the engine cannot open itself."""
        self._openers[kind] = opener

    def resource(self, kind: type) -> Any:
        """Return the resource of a type; open it at the first request."""
        if kind not in self._open:
            if kind not in self._openers:
                known = ", ".join(sorted(port.__name__ for port in self._openers))
                raise ConfigurationError(
                    f"a step requests the resource {kind.__name__}, which this session cannot open",
                    f"request one of: {known}",
                )
            self._open[kind] = self._openers[kind]()
        return self._open[kind]

    def pipeline(self, name: str) -> Pipeline:
        """Return a pipeline of the project, or a built-in one that pipeline.py does not define.

        A built-in pipeline does not import the project's code.

        Raises
        ------
        NotFound
            if there is none with that name.
        """
        if name in self.built_in:
            defined = read_names(self.project.folder / "pipeline.py")
            if defined is None or name not in defined.all:
                return self.built_in[name]()
        return self.project.code.pipeline(name)

    @cached_property
    def code_state(self) -> dict[str, Any]:
        """The project's code at the start of the session; `snapshot` is the digest of a blob with the code.

        In a deployed process, `build` is the id of the build whose code it is.
        """
        code = snapshot_code(self.project.folder)
        snapshot = self.workspace.blobs.put(code.archive)
        build = {"build": os.environ[BUILD_VARIABLE]} if os.environ.get(BUILD_VARIABLE) else {}
        return {"digest": code.digest, **read_commit(self.project.folder), "snapshot": snapshot, **build}

    @cached_property
    def packages_digest(self) -> str:
        """The digest of a blob that lists every installed package with its version."""
        return self.workspace.blobs.put("\n".join(self._installed).encode())

    @cached_property
    def software(self) -> dict[str, str]:
        """The versions of Python and of the packages that affect models."""
        versions = dict(package.split("==", 1) for package in self._installed)
        return select_main(platform.python_version(), versions)

    @cached_property
    def _installed(self) -> list[str]:
        return list_packages(self.workspace.root)

    @cached_property
    def host(self) -> str:
        """The name of this machine and the id of this process, as `machine:process`."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def fingerprint(self, function: Callable[..., Any]) -> str:
        """Return the digest of the code of a step, computed once: a session uses one state of the code."""
        if function not in self._fingerprints:
            self._fingerprints[function] = fingerprint(function)
        return self._fingerprints[function]

    def _fingerprint_name(self, code: str) -> str:
        """Return the digest of the code that `module:Class` names, computed once."""
        if code not in self._fingerprints:
            self._fingerprints[code] = fingerprint_by_name(code)
        return self._fingerprints[code]

    def list_declarations(self, node: Node) -> list[str]:
        """Return the parts of the cache key besides code and inputs.

        These are the declarations of the policy about the requested resources, and the code of an estimator that the
        policy names.
        """
        hints, inputs = node.step.hints.items(), node.inputs.items()
        declaring = [(name, kind) for name, kind in hints if is_resource(kind) and hasattr(kind, "declared")]
        declarations = [f"{name}:{self.resource(kind).declared}" for name, kind in declaring]
        estimators = {name: value.training.estimator for name, value in inputs if isinstance(value, ModelPolicy)}
        return declarations + [
            f"{name}:{self._fingerprint_name(estimator)}" for name, estimator in estimators.items() if ":" in estimator
        ]

    @property
    def packages(self) -> resources.PackageStore:
        return self.workspace.packages

    @property
    def sources(self) -> resources.Sources:
        sources: resources.Sources = self.resource(resources.Sources)
        return sources


def select_main(python: str, packages: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of Python and of the packages that affect models; an unknown one is left out."""
    known = {"python": python} if python else {}
    return known | {name: packages[name] for name in _MAIN if name in packages}


def is_resource(hint: Any) -> bool:
    """Return whether the engine fills a parameter of this type: every port has the attribute `writable`."""
    return isinstance(getattr(hint, "writable", None), bool)


def find_side_effects(step: Step[Any]) -> Literal["", "reads", "changes"]:
    """Return "changes" if a step requests a writable resource, "reads" if it requests a volatile one, otherwise "".

    A step that does either is never cached, and does not run again when a run is reproduced.
    """
    ports = [hint for hint in step.hints.values() if is_resource(hint)]
    if any(port.writable for port in ports):
        return "changes"
    return "reads" if any(getattr(port, "volatile", False) for port in ports) else ""


def is_reproducible(task: Task) -> bool:
    """Return whether all workspaces with the same history compute the same result for a task.

    That is so unless the task, or a transient task before it, reads a journal: predictions differ by workspace.
    """
    arguments = list(task.arguments.values())
    arguments += [member for argument in arguments if isinstance(argument, ListValue) for member in argument.members]
    transient = [argument.task for argument in arguments if isinstance(argument, TransientValue)]
    return resources.JournalReader not in task.step.hints.values() and all(map(is_reproducible, transient))
