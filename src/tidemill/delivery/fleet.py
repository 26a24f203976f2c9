"""The fleet: the deployed processes of all environments of a project, each on the target of its environment."""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

from tidemill.clock import Clock
from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.core.environment import Environment
from tidemill.core.machine import MachineFacts
from tidemill.core.policy import Policy
from tidemill.delivery.http_client import is_healthy
from tidemill.delivery.runtime import ReadBlob, prepare_runtime, select_required
from tidemill.delivery.target import Observation, OpenRuntime, Target, Workload
from tidemill.errors import NotFound, TidemillError

_START_SECONDS = 180.0
_PUBLISH_SECONDS = 60.0
_POLL_SECONDS = 0.2


class DeploymentFleet:
    """Prepares, starts, publishes and stops the builds of a project.

    `root` is the folder of the workspace, `data` that of the files of sources. `read_blob` returns bytes by their
    digest. `targets` opens the target of a kind.
    """

    writable: ClassVar[bool] = True

    def __init__(
        self,
        policy: Policy,
        root: Path,
        data: Path,
        read_blob: ReadBlob,
        clock: Clock,
        targets: Mapping[str, Callable[[Path], Target]],
    ) -> None:
        self._policy = policy
        self._root, self._data = root.resolve(), data.resolve()
        self._read_blob = read_blob
        self._clock = clock
        self._targets = targets

    @property
    def people(self) -> dict[str, tuple[str, ...]]:
        """The other names of each person."""
        return self._policy.people

    def settings(self, environment: str) -> Environment:
        """Return the settings of an environment.

        Raises
        ------
        NotFound
            if the policy has none with that name.
        """
        if environment not in self._policy.environments:
            known = ", ".join(self._policy.environments) or "none"
            cure = f"add [environments.{environment}] to tidemill.toml; it has: {known}"
            raise NotFound(f"there is no environment {environment!r}", cure)
        return self._policy.environments[environment]

    def prepare(self, build: Build, environment: str) -> tuple[Build, MachineFacts]:
        """Make the runtime of a build; return the build with the packages that it needs there, and what is there."""
        workload = self.describe_workload(build, environment)
        facts = self._target(environment).prepare(workload, self._runtime(build))
        return select_required(build, self._read_blob(build.artifacts["wheel"])), facts

    def start(self, deployment: Deployment, build: Build) -> str:
        """Start a deployment without requests of users, and return its private address once it is healthy.

        Raises
        ------
        TidemillError
            if it does not become healthy.
        """
        workload = self._workload(deployment, build)
        target = self._target(deployment.environment)
        target.start(workload, self._runtime(build))
        seen = self._wait(target, workload, _answers_privately, _START_SECONDS)
        return seen.address

    def publish(self, deployment: Deployment, build: Build) -> str:
        """Give the requests of its environment to a deployment that runs, and return the public address.

        Raises
        ------
        TidemillError
            if it does not answer there.
        """
        workload = self._workload(deployment, build)
        target = self._target(deployment.environment)
        target.activate(workload)
        seen = self._wait(target, workload, _answers_publicly, _PUBLISH_SECONDS)
        return seen.public

    def stop(self, environment: str, deployment: str) -> None:
        """End the processes of a deployment; they finish their open requests."""
        self._target(environment).stop(environment, deployment)

    def observe(self, deployment: Deployment, build: Build) -> Observation:
        """Return what runs of a deployment now."""
        return self._target(deployment.environment).observe(self._workload(deployment, build))

    def describe_workload(self, build: Build, environment: str) -> Workload:
        """Return what a build would run as in an environment, without a deployment."""
        draft = Deployment(
            id=f"build-{build.number}", environment=environment, version=0, build=build.id, change="promote",
            state="waiting", time=self._clock.now(), by="",
        )  # fmt: skip
        return self._workload(draft, build)

    def list_running(self, environment: str) -> list[str]:
        """Return the ids of the deployments of an environment that run now."""
        return self._target(environment).list_running(environment)

    def _wait(
        self, target: Target, workload: Workload, condition: Callable[[Observation], bool], seconds: float
    ) -> Observation:
        clock = self._clock
        deadline = clock.monotonic() + seconds
        while True:
            seen = target.observe(workload)
            if condition(seen):
                return seen
            if seen.state == "absent" or seen.problem or clock.monotonic() > deadline:
                ended = "its process ended" if seen.state == "absent" else f"it is {seen.state} after {seconds:.0f} s"
                problem = seen.problem or ended
                raise TidemillError(f"the service does not become healthy: {problem}", "see the log of its process")
            clock.sleep(_POLL_SECONDS)

    def _runtime(self, build: Build) -> OpenRuntime:
        return partial(prepare_runtime, build, self._read_blob, self._root / "builds")

    def _target(self, environment: str) -> Target:
        kind = self.settings(environment).target
        if kind not in self._targets:
            raise NotFound(f"there is no target {kind!r}", f"use one of: {', '.join(self._targets)}")
        return self._targets[kind](self._root)

    def _workload(self, deployment: Deployment, build: Build) -> Workload:
        settings = self.settings(deployment.environment)
        data = (self._data / settings.data).resolve() if settings.data else self._data
        return Workload(
            deployment=deployment.id,
            environment=deployment.environment,
            settings=settings,
            build=build.id,
            project=build.project,
            image=build.image,
            workspace=self._root,
            data=data,
            port=settings.port or self._choose_port(deployment.environment),
        )

    def _choose_port(self, environment: str) -> int:
        """Return the port of an environment without one in its settings: chosen once, and kept."""
        file = self._root / "environments" / environment / "port"
        with suppress(OSError, ValueError):
            return int(file.read_text())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        draft.write_text(str(port))
        draft.replace(file)
        return port


def _answers_privately(seen: Observation) -> bool:
    return bool(seen.address) and (seen.is_checked or is_healthy(seen.address))


def _answers_publicly(seen: Observation) -> bool:
    return bool(seen.public) and (seen.is_checked or is_healthy(seen.public))
