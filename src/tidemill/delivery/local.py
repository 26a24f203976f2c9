"""The target `local`: each deployment is a process on this machine, which outlives the process that started it."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tidemill.core.machine import MachineFacts
from tidemill.delivery.folder import DeploymentFolder
from tidemill.delivery.target import Observation, OpenRuntime, Workload, fill_variables, find_key_variable
from tidemill.errors import TidemillError
from tidemill.faults import maybe_crash
from tidemill.host.machine import read_machine
from tidemill.host.programs import OUTLIVING

_STOP_SECONDS = 45.0
_POLL_SECONDS = 0.1
_LOG_BYTES = 4_000


class LocalTarget:
    """Starts `tidemill up` for each deployment; `root` is the folder of the workspace."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self, workload: Workload, runtime: OpenRuntime) -> MachineFacts:
        return read_interpreter(workload, runtime)

    def start(self, workload: Workload, runtime: OpenRuntime) -> None:
        files = runtime()
        own = {"TIDEMILL_PROJECT": str(files.project)}
        folder = self._folder(workload.environment, workload.deployment)
        with folder.lock() as descriptor:
            if descriptor is None:
                return
            (folder.folder / "process.json").unlink(missing_ok=True)
            with folder.log.open("ab") as log:
                subprocess.Popen(
                    [
                        *(str(files.python), "-m", "tidemill", "up", "--env", workload.environment),
                        *("--port", "0", "--pages-port", "0", "--deployment", str(folder.folder)),
                        *workload.options,
                    ],
                    cwd=files.project,
                    env=_inherit() | find_key_variable(workload) | OUTLIVING | fill_variables(workload) | own,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(descriptor,),
                    preexec_fn=limit_memory(workload.settings.memory_mb),
                )
        maybe_crash("deployed process is started")

    def observe(self, workload: Workload) -> Observation:
        folder = self._folder(workload.environment, workload.deployment)
        if not folder.is_running():
            return Observation(state="absent", problem=_read_end(folder.log))
        return folder.observe_process()

    def activate(self, workload: Workload) -> None:
        self._folder(workload.environment, workload.deployment).activate(workload.port)

    def stop(self, environment: str, deployment: str) -> None:
        folder = self._folder(environment, deployment)
        deadline = time.monotonic() + _STOP_SECONDS
        number = signal.SIGTERM
        while folder.is_running():
            facts = folder.read_report()
            if facts is not None:
                with suppress(ProcessLookupError):
                    os.kill(facts.process, number)
            if time.monotonic() > deadline:
                if number == signal.SIGKILL:
                    raise TidemillError(f"the process of deployment {deployment} does not end", "end it manually")
                number, deadline = signal.SIGKILL, time.monotonic() + _STOP_SECONDS
            elif number == signal.SIGTERM and facts is not None:
                _wait_until(lambda: not folder.is_running(), deadline)
            time.sleep(_POLL_SECONDS)

    def list_running(self, environment: str) -> list[str]:
        folders = sorted((self._root / "environments" / environment / "deployments").glob("*/lock"))
        return [lock.parent.name for lock in folders if DeploymentFolder(lock.parent).is_running()]

    def _folder(self, environment: str, deployment: str) -> DeploymentFolder:
        return DeploymentFolder(self._root / "environments" / environment / "deployments" / deployment)


def read_interpreter(workload: Workload, runtime: OpenRuntime) -> MachineFacts:
    """Return what a process of the build's interpreter finds on this machine, with the limits of the environment."""
    python = runtime().python
    return read_machine([str(python)], str(python), limit_memory(workload.settings.memory_mb))


def _wait_until(condition: Callable[[], bool], deadline: float) -> None:
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _inherit() -> dict[str, str]:
    """Return the environment variables that a deployed process inherits: not those of the run that starts it."""
    own = ("TIDEMILL_PROJECT", "TIDEMILL_BUILD", "TIDEMILL_DATA", "TIDEMILL_PAGES")
    return {name: value for name, value in os.environ.items() if name not in own}


def limit_memory(megabytes: int | None) -> Callable[[], None] | None:
    """Return the function that limits the memory of a process before its program starts; None without a limit."""
    if megabytes is None:
        return None
    limit = megabytes << 20

    def apply() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    return apply


def _read_end(log: Path) -> str:
    """Return the last line that a process printed."""
    with suppress(OSError):
        lines = log.read_bytes()[-_LOG_BYTES:].decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""
    return ""
