"""Fleet: the port by which steps deploy builds."""

from typing import ClassVar, Protocol

from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.core.environment import Environment
from tidemill.core.machine import MachineFacts


class Fleet(Protocol):
    """The deployed processes of the environments of a project."""

    writable: ClassVar[bool] = True

    @property
    def people(self) -> dict[str, tuple[str, ...]]:
        """Return the other names of each person, from the policy."""
        ...

    def settings(self, environment: str) -> Environment:
        """Return the settings of an environment; raise `NotFound` if there is none with that name."""
        ...

    def prepare(self, build: Build, environment: str) -> tuple[Build, MachineFacts]:
        """Make the environment of a build; return the build with the packages that it needs, and what is there."""
        ...

    def start(self, deployment: Deployment, build: Build) -> str:
        """Start a deployment without requests of users; return its private address once it is healthy.

        Raise `TidemillError` if it does not become healthy. A repeated call starts nothing.
        """
        ...

    def publish(self, deployment: Deployment, build: Build) -> str:
        """Give the requests of its environment to a deployment that runs; return the public address."""
        ...

    def find_public_address(self, deployment: Deployment, build: Build) -> str:
        """Return the public address of a deployment that has the requests of its environment; else an empty text."""
        ...

    def stop(self, environment: str, deployment: str) -> None:
        """End the processes of a deployment; they finish their open requests."""
        ...

    def list_running(self, environment: str) -> list[str]:
        """Return the ids of the deployments of an environment that run now."""
        ...
