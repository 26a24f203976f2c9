"""The fleet: the deployed processes of all environments of a project, each on the target of its environment."""

import hashlib
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar

import msgspec

from tidemill.access.exposure import Exposure, check_exposure
from tidemill.clock import Clock
from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.core.environment import Environment
from tidemill.core.machine import MachineFacts
from tidemill.core.policy import Policy
from tidemill.delivery.folder import DeploymentFolder, Launch
from tidemill.delivery.http_client import is_healthy
from tidemill.delivery.runtime import ReadBlob, prepare_runtime, select_required
from tidemill.delivery.target import Observation, OpenRuntime, Target, Workload
from tidemill.errors import ConfigurationError, NotFound, TidemillError

_START_SECONDS = 180.0
_PUBLISH_SECONDS = 60.0
_POLL_SECONDS = 0.2
_FORGET = timedelta(minutes=10)
_LAUNCH_SETTINGS = ("host", "port", "tls_cert", "tls_key", "behind_proxy", "data", "memory_mb", "accelerator")
"""The settings that a process gets when it starts; its variables, which may have secrets, are compared by a digest."""
_WITH_IMAGES = ("container", "kubernetes")


class DeploymentFleet:
    """Prepares, starts, publishes and stops the builds of a project.

    `root` is the folder of the workspace, `data` that of the files of sources, `project` that of the project.
    `read_blob` returns bytes by their digest. `targets` opens the target of a kind. `verify_image` raises unless the
    image of a project is signed.
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
        project: Path,
        verify_image: Callable[[str, str], None] | None = None,
    ) -> None:
        self._policy = policy
        self._root, self._data = root.resolve(), data.resolve()
        self._read_blob = read_blob
        self._clock = clock
        self._targets = targets
        self._project = project.resolve()
        self._verify_image = verify_image

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
        """Make the runtime of a build; return the build with the packages that it needs there, and what is there.

        An image that the environment does not start is not even asked what it has.

        Raises
        ------
        InputError
            if its address is not protected, or its certificate cannot be used.
        """
        try:
            self._require_signed_image(build, environment, self.settings(environment).target)
        except TidemillError as refused:
            return build, MachineFacts(error=refused.problem)
        workload = self.describe_workload(build, environment)
        self._check_exposure(workload)
        facts = self._target(workload.settings.target).prepare(workload, self._runtime(build))
        return select_required(build, self._read_blob(build.artifacts["wheel"])), facts

    def start(self, deployment: Deployment, build: Build) -> str:
        """Start a deployment without requests of users, and return its private address once it is healthy.

        Raises
        ------
        TidemillError
            if it does not become healthy, or its image is not signed and the environment demands it.
        """
        self._require_signed_image(build, deployment.environment, deployment.target)
        workload = self._workload(deployment, build)
        target = self._target(deployment.target)
        launch = Launch(target=deployment.target, settings=_list_settings(workload.settings, deployment.target))
        self._folder(deployment.environment, deployment.id).record_launch(launch)
        target.start(workload, self._runtime(build))
        seen = self._wait(target, workload, _answers_privately, _START_SECONDS)
        return seen.address

    def publish(self, deployment: Deployment, build: Build) -> str:
        """Give the requests of its environment to a deployment that runs, and return the public address.

        A deployment that was healthy and whose process was killed meanwhile is started once more.

        Raises
        ------
        TidemillError
            if it does not answer there.
        """
        workload = self._workload(deployment, build)
        target = self._target(deployment.target)
        target.activate(workload)
        try:
            return self._wait(target, workload, _answers_publicly, _PUBLISH_SECONDS).public
        except TidemillError:
            if target.observe(workload).state != "absent":
                raise
        self.start(deployment, build)
        target.activate(workload)
        return self._wait(target, workload, _answers_publicly, _PUBLISH_SECONDS).public

    def find_public_address(self, deployment: Deployment, build: Build) -> str:
        """Return the public address of a deployment that has the requests of its environment; else an empty text."""
        seen = self.observe(deployment, build)
        return seen.public if _answers_publicly(seen) else ""

    def stop(self, environment: str, deployment: str) -> None:
        """End the processes of a deployment, on the target that it was started on; they finish their open requests."""
        folder = self._folder(environment, deployment)
        launch = folder.read_launch()
        kind = launch.target if launch is not None else self.settings(environment).target
        self._target(kind).stop(environment, deployment)
        folder.forget_launch()

    def observe(self, deployment: Deployment, build: Build) -> Observation:
        """Return what runs of a deployment now."""
        return self._target(deployment.target).observe(self._workload(deployment, build))

    def describe_changes(self, deployment: Deployment) -> str:
        """Return which settings of the environment differ from those that a deployment was started with."""
        settings = self.settings(deployment.environment)
        launch = self._folder(deployment.environment, deployment.id).read_launch()
        before = launch.settings if launch is not None else {"target": deployment.target}
        now = _list_settings(settings, settings.target)
        changed = [name for name, text in before.items() if now.get(name, "") != text]
        shown = [name if name == "variables" else f"{name} {before[name]} → {now.get(name, '')}" for name in changed]
        return ", ".join(shown)

    def describe_workload(self, build: Build, environment: str) -> Workload:
        """Return what a build would run as in an environment, without a deployment."""
        draft = Deployment(
            id=f"build-{build.number}", environment=environment, version=0, build=build.id, change="promote",
            state="waiting", time=self._clock.now(), by="",
        )  # fmt: skip
        return self._workload(draft, build)

    def list_running(self, environment: str) -> list[str]:
        """Return the ids of the deployments of an environment that run now, also on targets that it had before."""
        folders = (self._root / "environments" / environment / "deployments").glob("*/launch.json")
        launched = {file.parent.name: self._folder(environment, file.parent.name).read_launch() for file in folders}
        targets = {launch.target for launch in launched.values() if launch is not None}
        if environment in self._policy.environments:
            targets.add(self._policy.environments[environment].target)
        running = {name for kind in sorted(targets) for name in self._target(kind).list_running(environment)}
        for name in launched.keys() - running:
            self._folder(environment, name).forget_launch(before=self._clock.now() - _FORGET)
        return sorted(running)

    def _require_signed_image(self, build: Build, environment: str, target: str) -> None:
        if not self.settings(environment).signed or target not in _WITH_IMAGES or not build.image:
            return
        if self._verify_image is None:
            raise ConfigurationError("signatures of images cannot be verified here", "open the fleet of a session")
        self._verify_image(build.project, build.image)

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

    def _check_exposure(self, workload: Workload) -> None:
        settings, folder = workload.settings, workload.project_folder
        exposure = Exposure(
            host=settings.host,
            tls_cert=folder / settings.tls_cert if settings.tls_cert else None,
            tls_key=folder / settings.tls_key if settings.tls_key else None,
            behind_proxy=settings.behind_proxy,
        )
        check_exposure(exposure, f"the service of {workload.environment}")

    def _folder(self, environment: str, deployment: str) -> DeploymentFolder:
        return DeploymentFolder(self._root / "environments" / environment / "deployments" / deployment)

    def _target(self, kind: str) -> Target:
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
            project_folder=self._project,
            signing_key=self._policy.signing.key,
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


def _list_settings(settings: Environment, target: str) -> dict[str, str]:
    """Return the settings that a process on a target gets when it starts, as text."""
    shown = {name: str(getattr(settings, name)) for name in _LAUNCH_SETTINGS}
    variables = msgspec.json.encode(settings.variables, order="sorted")
    return shown | {"target": target, "variables": hashlib.sha256(variables).hexdigest()[:16]}


def _answers_privately(seen: Observation) -> bool:
    return bool(seen.address) and (seen.is_checked or is_healthy(seen.address))


def _answers_publicly(seen: Observation) -> bool:
    """Return whether a process has its public port and is healthy; the one before it can still answer there too."""
    return bool(seen.public) and (seen.is_checked or is_healthy(seen.address))
