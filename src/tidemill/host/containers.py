"""Container runtimes: finds podman or docker on this machine, and runs their commands."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from tidemill.errors import TidemillError
from tidemill.host.programs import OUTLIVING

_SECONDS = 120
_MISSING = ("no such container", "no such object", "no container with")
# The shell has the file of a lock open until the command ends; the command and its container do not inherit it.
_KEEP_LOCK = '"$@" </dev/null'
_RAISE_LIMITS = 24  # CAP_SYS_RESOURCE: the right to raise limits


RuntimeKind = Literal["podman", "docker"]


class ContainerState(Struct, frozen=True, kw_only=True):
    """The state of a container: its status in the words of the runtime, and how it ended."""

    status: str
    code: int = 0
    is_out_of_memory: bool = False

    @property
    def is_running(self) -> bool:
        """Return whether its process runs."""
        return self.status in ("running", "paused", "stopping", "restarting")


class LoadedImage(Struct, frozen=True, kw_only=True):
    """An image in the storage of a runtime: its id, the digest of its manifest if it is known, and its interpreter.

    The id is the digest of its configuration, which names the contents of all layers; with some versions of docker it
    is that of the manifest.
    """

    id: str
    digest: str
    interpreter: str


class ContainerRuntime(Struct, frozen=True, kw_only=True):
    """The program that runs containers."""

    kind: RuntimeKind
    program: str

    @property
    def storage(self) -> str:
        """Return the transport by which skopeo writes to its storage of images."""
        return "containers-storage" if self.kind == "podman" else "docker-daemon"

    def call(self, *arguments: str, seconds: float = _SECONDS) -> str:
        """Run a command of the runtime, and return what it prints.

        Raises
        ------
        TidemillError
            if it fails.
        """
        done = self._run(arguments, seconds)
        if done.returncode:
            raise self._describe(arguments[0], done.stderr)
        return done.stdout

    def start(self, arguments: Sequence[str], variables: Mapping[str, str], lock: int) -> None:
        """Run a command, also to its end if this process is killed; `lock` is locked until it ends.

        Raises
        ------
        TidemillError
            if it fails.
        """
        command = ["sh", "-c", _KEEP_LOCK, "sh", self.program, *arguments]
        done = subprocess.run(
            command,
            stdin=lock,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | variables | OUTLIVING,
            start_new_session=True,
            check=False,
        )
        if done.returncode:
            raise self._describe(arguments[0], done.stderr)

    def list_isolation(self, owner: Path, memory_mb: int | None = None) -> Iterator[str]:
        """Yield the options for the rights and the limits of a container.

        It has the network and the processes of this machine, so that process ids mean the same everywhere. Its file
        system is the image, which it cannot change. Its user is the owner of a folder, without any privilege.
        """
        status = owner.stat()
        yield from ("--network", "host", "--pid", "host", "--read-only", "--tmpfs", "/tmp")
        yield from ("--user", f"{status.st_uid}:{status.st_gid}", "--cap-drop", "all")
        yield from ("--security-opt", "no-new-privileges", "--env", "HOME=/tmp", "--env", "USER=tidemill")
        if self.kind == "podman" and os.geteuid() != 0:
            yield "--userns=keep-id"
        yield from self.list_limits()
        if memory_mb is not None:
            yield from ("--memory", f"{memory_mb}m", "--memory-swap", f"{memory_mb}m")

    def list_limits(self) -> Iterator[str]:
        """Yield the limits of open files and processes where podman could not raise them as it wants to.

        That is so for a root without the right to raise limits, as inside some virtual machines and containers.
        """
        if self.kind == "podman" and os.geteuid() == 0 and not _can_raise_limits():
            limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
            for name, kind in limits.items():
                most = resource.getrlimit(kind)[1]
                if name == "nproc":  # podman lowers its own limit to the number of process ids
                    most = min(most if most != resource.RLIM_INFINITY else 1 << 22, _read_most_processes())
                yield from ("--ulimit", f"{name}={most}:{most}")

    def inspect(self, name: str) -> ContainerState | None:
        """Return the state of a container; None if there is none with this name."""
        fields = ("{{.State.Status}}", "{{.State.ExitCode}}", "{{.State.OOMKilled}}")
        done = self._run(("inspect", "--type", "container", "--format", " ".join(fields), name))
        if done.returncode:
            if any(text in done.stderr.lower() for text in _MISSING):
                return None
            raise self._describe("inspect", done.stderr)
        status, code, killed = done.stdout.split()
        return ContainerState(status=status, code=int(code), is_out_of_memory=killed == "true")

    def read_log(self, name: str, lines: int | None = None) -> str:
        """Return what the process of a container printed; empty if there is no such container."""
        tail = () if lines is None else ("--tail", str(lines))
        done = self._run(("logs", *tail, name))
        return done.stdout + done.stderr if done.returncode == 0 else ""

    def stop(self, name: str, grace_seconds: int) -> None:
        """Stop a container, by force after some seconds; without the container, nothing is done."""
        self._run_if_present(("stop", "--time", str(grace_seconds), name), _SECONDS + grace_seconds)

    def remove(self, name: str) -> None:
        """Delete a container, with its process; without the container, nothing is done."""
        self._run_if_present(("rm", "--force", "--volumes", name), _SECONDS)

    def kill(self, name: str) -> None:
        """End a container at once, and delete it; without the container, nothing is done."""
        at_once = ("--time", "0") if self.kind == "podman" else ()
        self._run_if_present(("rm", "--force", *at_once, "--volumes", name), _SECONDS)

    def _run_if_present(self, arguments: Sequence[str], seconds: float) -> None:
        done = self._run(arguments, seconds)
        if done.returncode and not any(text in done.stderr.lower() for text in _MISSING):
            raise self._describe(arguments[0], done.stderr)

    def describe_image(self, name: str) -> LoadedImage | None:
        """Return the image with a name or an id; None if the storage has none."""
        done = self._run(("image", "inspect", name))
        if done.returncode:
            return None
        (image,) = msgspec.json.decode(done.stdout)
        return LoadedImage(
            id=f"sha256:{str(image.get('Id', '')).removeprefix('sha256:')}",
            digest=str(image.get("Digest", "")),
            interpreter=str((image["Config"].get("Entrypoint") or ["python3"])[0]),
        )

    def _run(self, arguments: Sequence[str], seconds: float = _SECONDS) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                [self.program, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TidemillError(
                f"{self.kind} {arguments[0]} did not end within {seconds:.0f} s", f"check `{self.kind} info`"
            ) from None

    def _describe(self, command: str, printed: str) -> TidemillError:
        lines = [line for line in printed.splitlines() if line.strip()]
        text = lines[-1].removeprefix("Error: ")[-500:] if lines else "it printed nothing"
        return TidemillError(f"{self.kind} {command} failed: {text}", f"check `{self.kind} info`")


def _can_raise_limits() -> bool:
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        rights = next(line.split()[1] for line in lines if line.startswith("CapEff"))
        return bool(int(rights, 16) >> _RAISE_LIMITS & 1)
    return True


def _read_most_processes() -> int:
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    return 1 << 15


def find_container_runtime() -> ContainerRuntime:
    """Return podman if it is installed, otherwise docker.

    Raises
    ------
    TidemillError
        if neither is installed.
    """
    kinds: tuple[RuntimeKind, ...] = ("podman", "docker")
    for kind in kinds:
        program = shutil.which(kind)
        if program:
            return ContainerRuntime(kind=kind, program=program)
    raise TidemillError(
        "neither podman nor docker is installed, so no container can run", "install podman and skopeo on this machine"
    )
