"""The target `ray`: each deployment is a job of a Ray cluster, submitted over the REST API of Ray Jobs.

Its reference is https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html; the package `ray`
is not needed here, so that its version need not be that of the cluster.
"""

import os
import shlex
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
from msgspec import Struct

from tidemill.core.machine import MachineFacts
from tidemill.delivery.folder import DeploymentFolder
from tidemill.delivery.local import read_interpreter
from tidemill.delivery.target import (
    Observation,
    OpenRuntime,
    Runtime,
    Workload,
    fill_variables,
    find_key_variable,
)
from tidemill.errors import TidemillError
from tidemill.faults import maybe_crash

ADDRESS = "RAY_API_SERVER_ADDRESS"
"""The environment variable with the address of the dashboard of a cluster, as Ray itself names it."""

_DEFAULT = "http://127.0.0.1:8265"
_SECONDS = 30.0
_STOP_SECONDS = 45
_POLL_SECONDS = 0.2
_RUNNING = ("PENDING", "RUNNING")
_NOT_FOUND = 404


class _Job(Struct, frozen=True):
    """A job, as the cluster describes it."""

    status: str
    message: str | None = ""
    submission_id: str | None = ""
    metadata: dict[str, str] | None = None


class RayTarget:
    """Submits `tidemill up` as a job for each deployment, with the same files as the target `local`.

    The cluster has the folder of the workspace at the same path, and runs the job on the machine of this process.
    `root` is that folder; `address` is the dashboard of the cluster.
    """

    def __init__(self, root: Path, address: str = "") -> None:
        self._root = root.resolve()
        self._address = (address or os.environ.get(ADDRESS) or _DEFAULT).rstrip("/")

    def prepare(self, workload: Workload, runtime: OpenRuntime) -> MachineFacts:
        return read_interpreter(workload, runtime)

    def start(self, workload: Workload, runtime: OpenRuntime) -> None:
        files = runtime()
        folder, name = self._folder(workload.environment, workload.deployment), _name(workload.deployment)
        with folder.lock() as descriptor:
            if descriptor is None:
                return
            job = self._find(name)
            if job is not None and job.status in _RUNNING:
                return
            if job is not None:
                self._call("DELETE", f"/api/jobs/{name}")
            (folder.folder / "process.json").unlink(missing_ok=True)
            variables = (
                find_key_variable(workload)
                | fill_variables(workload)
                | {
                    "TIDEMILL_PROJECT": str(files.project),
                    "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS),
                }
            )
            self._call(
                "POST",
                "/api/jobs/",
                {
                    "entrypoint": _write_command(workload, files, folder.folder),
                    "submission_id": name,
                    "runtime_env": {"env_vars": variables},
                    "metadata": {"workspace": str(self._root), "environment": workload.environment},
                    "entrypoint_num_gpus": 1 if workload.settings.accelerator else 0,
                },
            )
        maybe_crash("deployed process is started")

    def observe(self, workload: Workload) -> Observation:
        folder, name = self._folder(workload.environment, workload.deployment), _name(workload.deployment)
        is_being_started = folder.is_running()
        job = self._find(name)
        if job is None or job.status not in _RUNNING:
            if is_being_started:
                return Observation(state="starting")
            return Observation(state="absent", problem=self._describe_end(name, job))
        return folder.observe_process()

    def activate(self, workload: Workload) -> None:
        self._folder(workload.environment, workload.deployment).activate(workload.port)

    def stop(self, environment: str, deployment: str) -> None:
        folder, name = self._folder(environment, deployment), _name(deployment)
        if self._find(name) is None and not folder.is_running():
            return
        deadline = time.monotonic() + 2 * _STOP_SECONDS
        with folder.lock(seconds=_STOP_SECONDS) as descriptor:
            if descriptor is None:
                raise TidemillError(f"deployment {deployment} is still being started", "stop it again in a minute")
            while (job := self._find(name)) is not None and job.status in _RUNNING:
                if time.monotonic() > deadline:
                    raise TidemillError(f"the job {name} of Ray does not end", f"run `ray job stop {name}`")
                self._call("POST", f"/api/jobs/{name}/stop", {})
                time.sleep(_POLL_SECONDS)
            folder.log.write_text(self._read_log(name))
            if job is not None:
                self._call("DELETE", f"/api/jobs/{name}")

    def list_running(self, environment: str) -> list[str]:
        jobs = msgspec.json.decode(self._call("GET", "/api/jobs/"), type=list[_Job])
        metadata = {"workspace": str(self._root), "environment": environment}
        names = (job.submission_id or "" for job in jobs if job.metadata == metadata and job.status in _RUNNING)
        return sorted(name.removeprefix(_name("")) for name in names)

    def _find(self, name: str) -> _Job | None:
        body = self._call("GET", f"/api/jobs/{name}", may_be_missing=True)
        return msgspec.json.decode(body, type=_Job) if body else None

    def _describe_end(self, name: str, job: _Job | None) -> str:
        """Return why a job ended: the last line that it printed, or the message of the cluster."""
        if job is None:
            return ""
        lines = self._read_log(name).strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else str(job.message or job.status)

    def _read_log(self, name: str) -> str:
        body = self._call("GET", f"/api/jobs/{name}/logs", may_be_missing=True)
        return str(msgspec.json.decode(body)["logs"] or "") if body else ""

    def _call(self, method: str, path: str, content: object = None, *, may_be_missing: bool = False) -> bytes:
        """Send a request to the cluster; the answer is empty if what it names is missing, and may be."""
        body = None if content is None else msgspec.json.encode(content)
        request = urllib.request.Request(
            f"{self._address}{path}", data=body, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                return bytes(reply.read())
        except urllib.error.HTTPError as refused:
            if refused.code == _NOT_FOUND and may_be_missing:
                return b""
            lines = refused.read().decode(errors="replace").strip().splitlines()
            text = lines[-1][-500:] if lines else str(refused)
            raise TidemillError(f"Ray at {self._address} refuses a request: {text}", "check the cluster") from None
        except OSError as failure:
            cure = f"start it with `ray start --head`, or set {ADDRESS} to the address of its dashboard"
            raise TidemillError(f"Ray at {self._address} cannot be reached: {failure}", cure) from None

    def _folder(self, environment: str, deployment: str) -> DeploymentFolder:
        return DeploymentFolder(self._root / "environments" / environment / "deployments" / deployment)


def _name(deployment: str) -> str:
    return f"tidemill-{deployment}"


def _write_command(workload: Workload, files: Runtime, folder: Path) -> str:
    """Return the shell command of a job: it limits the memory of the process, and becomes the process."""
    up = ["up", "--env", workload.environment, "--port", "0", "--pages-port", "0", "--deployment", str(folder)]
    up += workload.options
    run = shlex.join([str(files.python), "-m", "tidemill", *up])
    limit = workload.settings.memory_mb
    steps = [f"ulimit -d {limit << 10}"] if limit is not None else []
    return " && ".join([*steps, f"cd {shlex.quote(str(files.project))}", f"exec {run}"])
