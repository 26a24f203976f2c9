"""The engine `container`: runs steps in parallel in containers of podman or docker, made from the image of a build."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from tidemill.core.engine import StepImage, StepImages
from tidemill.errors import ConfigurationError, InputError, TidemillError
from tidemill.flow.engines import container_process
from tidemill.flow.engines.pool import RESUME, PoolEngine, WorkerProcess, describe_exit
from tidemill.flow.engines.processes import SpawnedProcess
from tidemill.flow.session import IMAGE_VARIABLE, Session
from tidemill.flow.tasks import Task
from tidemill.host.containers import ContainerRuntime, find_container_runtime
from tidemill.host.programs import OUTLIVING

_NOT_STARTED = (125, 126, 127)  # the exit codes of podman and docker themselves
_SIGNAL = 128
_MOUNT_ERRORS = ("statfs", "mount", "bind source path", "no such file or directory")
# The variables that describe this machine and not the run; the image and the runtime have their own.
_NOT_INHERITED = (
    *("PATH", "PWD", "OLDPWD", "SHLVL", "SHELL", "HOME", "USER", "LOGNAME", "MAIL", "TERM", "HOSTNAME", "DISPLAY", "_"),
    *("TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *(
        "TIDEMILL_PROJECT",
        *OUTLIVING,
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "PYTHONEXECUTABLE",
    ),
)
_NOT_INHERITED_GROUPS = ("LD_", "CONDA", "XDG_", "DBUS_", "CONTAINERS_", "DOCKER_", "PODMAN_", "PYTEST_", "BASH_FUNC_")


def open_container_engine(session: Session) -> PoolEngine:
    """Return the engine of a session."""
    return PoolEngine("container", ContainerLauncher(session))


class ContainerLauncher:
    """Starts containers, each of which performs the tasks of one image.

    A container has the project, which it can only read, and the workspace, at the paths of this machine. A process
    that itself runs in the image starts processes instead.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chosen: dict[str, StepImage] = {}
        self._names: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def choose_kind(self, task: Task) -> str:
        """Return the digest of the image for the pipeline of a task."""
        run = task.context.run
        if run not in self._chosen:
            pipeline = self._session.workspace.ledger.runs.get(run).pipeline
            self._chosen[run] = self._images.choose(pipeline)
        return self._chosen[run].digest

    def launch(self, kind: str) -> WorkerProcess:
        """Start a container of the image with this digest.

        Raises
        ------
        TidemillError
            if there is no podman or docker, or the image cannot be loaded.
        """
        if self._session.reopen is None:
            raise InputError("this session cannot run steps in containers: a backtest has its own resources", RESUME)
        if os.environ.get(IMAGE_VARIABLE) == kind:
            return SpawnedProcess(self._session)
        image = next(image for image in self._chosen.values() if image.digest == kind)
        containers = self._runtime
        if kind not in self._names:
            self._names[kind] = self._images.load(image)
        name = f"tidemill-step-{os.getpid()}-{id(self) % 10_000}-{next(self._numbers)}"
        command = [containers.program, *self._list_words(containers, image, self._names[kind], name)]
        process = ContainerProcess(containers, name, image, command)
        with suppress(OSError):  # it has ended already: the task reports why
            process.tasks.send_bytes(ForkingPickler.dumps(self._session.reopen))
        return process

    @property
    def _images(self) -> StepImages:
        images: StepImages = self._session.resource(StepImages)
        return images

    @cached_property
    def _runtime(self) -> ContainerRuntime:
        return find_container_runtime()

    @cached_property
    def _code(self) -> str:
        return container_process.digest_code()

    def _list_words(self, containers: ContainerRuntime, image: StepImage, local: str, name: str) -> Iterator[str]:
        """Yield the words of the command that starts a container."""
        root = self._session.workspace.root.resolve()
        found = containers.describe_image(local)
        interpreter = found.interpreter if found is not None else "python3"
        yield from ("run", "--rm", "--interactive", "--name", name, "--log-driver", "none", "--ipc", "host")
        yield from containers.list_isolation(root)
        yield from (
            "--label",
            f"dev.tidemill.workspace={root}",
            "--workdir",
            str(self._session.project.folder.absolute()),
        )
        for variable in sorted(os.environ):
            if variable not in _NOT_INHERITED and not variable.startswith(_NOT_INHERITED_GROUPS):
                yield from ("--env", variable)
        project = self._session.project
        own = {  # the image names folders of its own in these variables
            "TIDEMILL_PROJECT": project.folder.absolute(),
            "TIDEMILL_WORKSPACE": root,
            "TIDEMILL_DATA": project.data_folder.absolute(),
            IMAGE_VARIABLE: image.digest,
            **image.variables,
        }
        yield from (word for variable, value in own.items() for word in ("--env", f"{variable}={value}"))
        for path, access in sorted(image.mounts.items()):
            if not Path(path).exists():
                raise ConfigurationError(
                    f"the folder {path}, which containers of steps need, does not exist",
                    "create it, or correct `mounts` under [pipelines] in tidemill.toml",
                )
            yield from ("--volume", f"{path}:{path}:{access}")
        program = Path(container_process.__file__).read_text(encoding="utf-8")
        minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
        yield from ("--entrypoint", interpreter, local, "-c", program, minor, self._code)


class ContainerProcess:
    """The process in a container, by the command that started it, which ends with it."""

    def __init__(self, containers: ContainerRuntime, name: str, image: StepImage, command: list[str]) -> None:
        self._containers = containers
        self._name = name
        self._image = image
        # In a session of its own, so that Ctrl-C does not reach it: the parent stops it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # The process in the container ends when its standard input does; the runtime then cleans up.
            env=os.environ | OUTLIVING,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.tasks = Connection(os.dup(self._process.stdin.fileno()), readable=False)
        self.outcomes = Connection(os.dup(self._process.stdout.fileno()), writable=False)
        self._process.stdin.close()
        self._process.stdout.close()
        self.printed: Any = self._process.stderr
        self.sentinel = self.outcomes  # it ends with the command
        self.place = f"image {image.digest[:19]}"

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def is_ending(self) -> bool:
        state = self._containers.inspect(self._name)
        return state is None or not state.is_running

    def join(self, seconds: float | None = None) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def kill(self) -> None:
        self._containers.kill(self._name)
        self._process.kill()
        self._process.wait()
        self._containers.kill(self._name)  # the command may have been starting it

    def end_programs(self) -> None:
        self._containers.kill(self._name)

    def describe_end(self, printed: str) -> TidemillError:
        code = self._process.returncode
        lines = [line for line in printed.splitlines() if line.strip()]
        last = lines[-1].removeprefix("Error: ")[-500:] if lines else "it printed nothing"
        what = f"image {self._image.digest[:19]}"
        minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if code == container_process.DIFFERENT:
            return ConfigurationError(
                f"{what} has {last}, and this machine has Python {minor}, Tidemill {container_process.digest_code()}",
                "build the commit again with this Tidemill: `tidemill ci run --force`",
            )
        if code in _NOT_STARTED:
            kind = self._containers.kind
            is_mount = any(text in last.lower() for text in _MOUNT_ERRORS)
            cure = f"check `{kind} info`"
            if is_mount:
                cure = f"the folders of the project and the workspace must be on the machine on which {kind} runs"
            return TidemillError(f"a container of {what} cannot start: {last}", cure)
        return TidemillError(describe_exit(_SIGNAL - code if code > _SIGNAL else code), RESUME)
