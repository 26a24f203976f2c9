"""Target: where the builds of an environment run. A target is a plug; its conformance suite is `testing/targets.py`."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from tidemill.core.environment import Environment
from tidemill.core.machine import MachineFacts
from tidemill.credentials import fill_secrets
from tidemill.errors import ConfigurationError
from tidemill.host.key_files import KEY_VARIABLE, find_key_file

ProcessState = Literal["absent", "starting", "ready", "public"]
"""`ready`: it answers on a private address; `public`: it answers on the address of the environment."""


class Runtime(Struct, frozen=True):
    """The files of a build on this machine: its interpreter, and the folder of the project."""

    python: Path
    project: Path


OpenRuntime = Callable[[], Runtime]
"""Makes the files of a build on this machine; a target that runs images does not call it."""


class Workload(Struct, frozen=True, kw_only=True):
    """What a target has to run: one deployment of an environment.

    Attributes
    ----------
    deployment
        The id of the deployment.
    environment
        The name of the environment.
    settings
        Its settings.
    build
        The id of the build.
    project
        The name of the project.
    image
        The digest of the build's container image; empty if there is none.
    workspace
        The folder of the workspace.
    data
        The folder of the files of sources.
    port
        The public port.
    project_folder
        The folder of the project that deploys, in which relative paths of settings are.
    signing_key
        The setting `[signing] key` of that project.
    """

    deployment: str
    environment: str
    settings: Environment
    build: str
    project: str
    image: str
    workspace: Path
    data: Path
    port: int
    project_folder: Path = Path()
    signing_key: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `tidemill up` for its address and its protection."""
        settings, words = self.settings, ["--host", self.settings.host]
        for option, file in (("--tls-cert", settings.tls_cert), ("--tls-key", settings.tls_key)):
            # Not resolved: a renewed certificate is often another file behind the same link.
            words += [option, str((self.project_folder / file).absolute())] if file else []
        return (*words, *(("--behind-proxy",) if settings.behind_proxy else ()))

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables of its processes, besides those that they inherit; secrets are not filled in."""
        return {
            "TIDEMILL_WORKSPACE": str(self.workspace),
            "TIDEMILL_DATA": str(self.data),
            "TIDEMILL_BUILD": self.build,
            **self.settings.variables,
        }


def fill_variables(workload: Workload) -> dict[str, str]:
    """Return the environment variables of a workload, with the secrets that they refer to, such as `${PASSWORD}`.

    Raises
    ------
    ConfigurationError
        if a secret is missing.
    """
    what = f"[environments.{workload.environment}.variables]"
    own = {name: fill_secrets(text, what) for name, text in workload.settings.variables.items()}
    return {**workload.variables, **own}


def find_key_variable(workload: Workload) -> dict[str, str]:
    """Return the variable that names the file of the private key: its path can be relative to another folder."""
    with suppress(ConfigurationError):  # a text that the process inherits
        if key := find_key_file(workload.signing_key, workload.project_folder):
            return {KEY_VARIABLE: str(key)}
    return {}


class Observation(Struct, frozen=True, kw_only=True):
    """What runs of a deployment: its state, its private and public address, and its problem, if it has one.

    `is_checked` is whether the target has checked its health by itself.
    """

    state: ProcessState
    address: str = ""
    public: str = ""
    problem: str = ""
    is_checked: bool = False


class Target(Protocol):
    """Runs the workloads of environments. Every method can be repeated: the second call changes nothing."""

    def prepare(self, workload: Workload, runtime: OpenRuntime) -> MachineFacts:
        """Make the environment of a workload, and return what a process of it finds there."""
        ...

    def start(self, workload: Workload, runtime: OpenRuntime) -> None:
        """Start a workload without requests of users; return before it is ready."""
        ...

    def observe(self, workload: Workload) -> Observation:
        """Return what runs of a workload now."""
        ...

    def activate(self, workload: Workload) -> None:
        """Give the requests of the environment to a ready workload, beside the one that has them now."""
        ...

    def stop(self, environment: str, deployment: str) -> None:
        """End a workload: it finishes its open requests, and nothing of it runs on."""
        ...

    def list_running(self, environment: str) -> list[str]:
        """Return the ids of the deployments of an environment that run now."""
        ...
