"""The target `container`: each deployment is a container of podman or docker, made from the image of the build."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tidemill.core.machine import MachineFacts
from tidemill.delivery.folder import DeploymentFolder
from tidemill.delivery.image import load_digest
from tidemill.delivery.oci import Layout
from tidemill.delivery.target import Observation, OpenRuntime, Workload, fill_variables
from tidemill.errors import InputError, TidemillError
from tidemill.faults import maybe_crash
from tidemill.host.containers import ContainerRuntime, ContainerState, find_container_runtime
from tidemill.host.key_files import KEY_VARIABLE, find_key_file, require_key_for
from tidemill.host.machine import read_machine

_STOP_SECONDS = 45
_KILLED = 137
_WORKSPACE, _ENVIRONMENT = "dev.tidemill.workspace", "dev.tidemill.environment"
_INHERITED = ("TIDEMILL_", "AWS_", "PG")
_OWN = ("PROJECT", "BUILD", "IMAGE", "DATA", "PAGES", "WORKSPACE", "TOKEN", "FAULT", "FAULT_ONCE")
_AUDIT_KEY, _AUDIT_HEADS = "TIDEMILL_AUDIT_KEY", "TIDEMILL_AUDIT_HEADS"
_STORE_URLS = ("sqlite:///", "file://", "/")


class ContainerTarget:
    """Starts a container for each deployment, with the same files as the target `local`.

    The container has the network and the processes of this machine, so that two deployments can share a port, and
    process ids in the ledger mean the same everywhere. Its file system is the image, which it cannot change, and the
    folders of the workspace and of the data. Its user is the owner of the workspace, without any privilege.

    `root` is the folder of the workspace, `images` the layout with the images of builds. An image that is not there
    comes from `registry`.
    """

    def __init__(self, root: Path, images: Path, registry: str = "") -> None:
        self._root = root.resolve()
        self._images = images
        self._registry = registry

    def prepare(self, workload: Workload, runtime: OpenRuntime) -> MachineFacts:  # noqa: ARG002 - the image has its own
        # Without the limit of memory: what the process needs to ask would count as used.
        containers = find_container_runtime()
        self._list_key_files(workload, _list_variables(workload))  # raises for a key that the container cannot have
        image = self._load(containers, workload)
        found = containers.describe_image(image)
        interpreter = found.interpreter if found is not None else ""
        command = (
            containers.program,
            "run",
            "--rm",
            *self._isolate(containers, workload, None),
            "--entrypoint",
            interpreter,
        )
        return read_machine([*command, image, "-m", "tidemill.host.machine_process"], f"image {workload.image[:19]}")

    def start(self, workload: Workload, runtime: OpenRuntime) -> None:  # noqa: ARG002 - the image has its own
        containers = find_container_runtime()
        folder, name = self._folder(workload.environment, workload.deployment), _name(workload.deployment)
        with folder.lock() as descriptor:
            if descriptor is None:
                return
            state = containers.inspect(name)
            if state is not None and state.is_running:
                return
            image = self._load(containers, workload)
            containers.remove(name)
            (folder.folder / "process.json").unlink(missing_ok=True)
            variables = _list_variables(workload) | {"TIDEMILL_IMAGE": workload.image}
            keys = self._list_key_files(workload, variables)
            variables |= {name: str(file) for name, file in keys.items()}
            labels = {_WORKSPACE: str(self._root), _ENVIRONMENT: workload.environment}
            containers.start(
                [
                    *("run", "--detach", "--name", name),
                    *self._isolate(containers, workload, workload.settings.memory_mb),
                    *(part for label, text in labels.items() for part in ("--label", f"{label}={text}")),
                    *(part for variable in variables for part in ("--env", variable)),
                    *(part for path, access in self._list_mounts(workload, variables) for part in _mount(path, access)),
                    *(part for file in sorted(set(keys.values())) for part in _mount(file, "ro")),
                    *(image, "up", "--env", workload.environment, "--port", "0", "--pages-port", "0"),
                    *("--deployment", str(folder.folder), *workload.options),
                ],
                variables,
                descriptor,
            )
        maybe_crash("deployed process is started")

    def observe(self, workload: Workload) -> Observation:
        containers = find_container_runtime()
        folder, name = self._folder(workload.environment, workload.deployment), _name(workload.deployment)
        is_being_started = folder.is_running()
        state = containers.inspect(name)
        if state is None or not state.is_running:
            if is_being_started:
                return Observation(state="starting")
            return Observation(state="absent", problem=_describe_end(containers, workload, state))
        return folder.observe_process()

    def activate(self, workload: Workload) -> None:
        self._folder(workload.environment, workload.deployment).activate(workload.port)

    def stop(self, environment: str, deployment: str) -> None:
        containers = find_container_runtime()
        folder, name = self._folder(environment, deployment), _name(deployment)
        if containers.inspect(name) is None and not folder.is_running():
            return
        with folder.lock(seconds=_STOP_SECONDS) as descriptor:
            if descriptor is None:
                raise TidemillError(f"deployment {deployment} is still being started", "stop it again in a minute")
            containers.stop(name, _STOP_SECONDS)
            with folder.log.open("a") as log:
                log.write(containers.read_log(name))
            containers.remove(name)

    def list_running(self, environment: str) -> list[str]:
        labels = {_WORKSPACE: str(self._root), _ENVIRONMENT: environment}
        filters = [part for label, text in labels.items() for part in ("--filter", f"label={label}={text}")]
        names = find_container_runtime().call("ps", *filters, "--format", "{{.Names}}").split()
        return sorted(name.removeprefix(_name("")) for name in names)

    def _load(self, containers: ContainerRuntime, workload: Workload) -> str:
        if not workload.image:
            raise InputError(
                "the build has no container image, which the target `container` needs",
                'build one: image = "always" under [ci] in tidemill.toml, then push again',
            )
        return load_digest(containers, Layout(self._images), workload.project, workload.image, self._registry)

    def _isolate(self, containers: ContainerRuntime, workload: Workload, memory_mb: int | None) -> Iterator[str]:
        """Yield the options for the rights, the limits and the devices of a container."""
        yield from containers.list_isolation(self._root, memory_mb)
        if workload.settings.accelerator:
            yield from ("--device", "nvidia.com/gpu=all") if containers.kind == "podman" else ("--gpus", "all")

    def _list_mounts(self, workload: Workload, variables: Mapping[str, str]) -> list[tuple[Path, str]]:
        """Return the folders of this machine in the container, at the same paths, and whether it may change them."""
        mounts = {self._root: "rw"}
        if workload.data.is_dir():
            mounts.setdefault(workload.data.resolve(), "ro")
        for file in (workload.settings.tls_cert, workload.settings.tls_key):
            if file:
                path = (workload.project_folder / file).absolute()
                for holder in (path.parent, path.resolve().parent):  # a certificate is often a link to the newest one
                    mounts.setdefault(holder, "ro")
        if heads := variables.get(_AUDIT_HEADS):
            Path(heads).mkdir(parents=True, exist_ok=True)
        for variable, text in variables.items():
            folder = find_store_folder(text) if variable.startswith("TIDEMILL_") else None
            if folder is not None and not folder.is_relative_to(self._root):
                mounts[folder] = "rw"
        return sorted(mounts.items())

    def _list_key_files(self, workload: Workload, variables: Mapping[str, str]) -> dict[str, Path]:
        """Return the files of private keys that the container gets, and can only read, by the variable that names each.

        Raises
        ------
        InputError
            if it cannot have one of them.
        ConfigurationError
            if a key is in no file.
        """
        key = find_key_file(workload.signing_key, workload.project_folder)
        files = {KEY_VARIABLE: key} if key is not None else {}
        if audit := variables.get(_AUDIT_KEY):
            files[_AUDIT_KEY] = Path(audit).expanduser().absolute()
        return {name: require_key_for(file, self._root) for name, file in files.items()}

    def _folder(self, environment: str, deployment: str) -> DeploymentFolder:
        return DeploymentFolder(self._root / "environments" / environment / "deployments" / deployment)


def _name(deployment: str) -> str:
    return f"tidemill-{deployment}"


def _mount(path: Path, access: str) -> tuple[str, ...]:
    return ("--volume", f"{path}:{path}:{access}")


def _list_variables(workload: Workload) -> dict[str, str]:
    """Return the environment variables of the process: those of stores are inherited, and the deployment's own."""
    own = {f"TIDEMILL_{name}" for name in _OWN}
    inherited = {name: text for name, text in os.environ.items() if name.startswith(_INHERITED) and name not in own}
    return inherited | fill_variables(workload)


def find_store_folder(url: str) -> Path | None:
    """Return the folder of a store that is a file or a folder of this machine; None for another text.

    >>> find_store_folder("redis://host/0")
    """
    prefix = next((prefix for prefix in _STORE_URLS if url.startswith(prefix)), None)
    if prefix is None:
        return None
    path = Path(url if prefix == "/" else url.removeprefix(prefix))
    folder = path.parent if prefix == "sqlite:///" else path
    return folder.resolve() if folder.is_dir() and folder.is_absolute() else None


def _describe_end(containers: ContainerRuntime, workload: Workload, state: ContainerState | None) -> str:
    """Return why a container ended: its limit of memory, or the last line that it printed."""
    if state is None:
        return ""
    limit = workload.settings.memory_mb
    # Not every runtime reports that the limit of memory was the reason.
    if limit is not None and (state.is_out_of_memory or state.code == _KILLED):
        return f"it was killed, as if it needed more than its limit of {limit:,} MB of memory"
    lines = containers.read_log(_name(workload.deployment), 5).strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"its process ended with exit status {state.code}"
