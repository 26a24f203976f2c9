"""The program of the fence: a small process that forks a worker for each model, and the workers that run the models.

It runs as `python -m tidemill.serving.fence_process FD PATH…`. `FD` is a socket to the service; `PATH…` is its module
path. The parent process never runs a model: it only imports libraries, so that a worker starts within milliseconds.
"""

import contextlib
import ctypes
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec
import numpy as np
import polars as pl

from tidemill.core.model import Model
from tidemill.errors import DataError, TidemillError
from tidemill.models.load import load
from tidemill.models.predictions import Predictor
from tidemill.serving.fence_messages import Answer, read_message, write_message

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_POLL_SECONDS = 0.1
_NICE = 5  # a model that loops must not take the processor from the service
_MOST_ENDINGS = 200
_LIBRARIES = ("sklearn", "scipy", "numpy", "joblib", "lightgbm", "pandas", "threadpoolctl", "river", "onnxruntime")


class _Host:
    """The parent of the workers: forks them on request, watches their memory, and reaps them with their descendants."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._limits: dict[int, int] = {}
        self._endings: dict[int, dict[str, Any]] = {}

    def run(self) -> None:
        """Respond to requests until the service closes its end."""
        while True:
            ready, _, _ = select.select([self._control], [], [], _POLL_SECONDS if self._limits else None)
            if ready:
                content, descriptors, _, _ = socket.recv_fds(self._control, 1 << 20, 4)
                if not content:
                    break
                self._control.sendall(json.dumps(self._handle(json.loads(content), descriptors)).encode())
            self._watch_memory()
            self._reap()
        for worker in self._limits:
            _kill_group(worker)

    def _handle(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        if request["operation"] == "fork":
            worker = os.fork()
            if worker == 0:
                os.setpgid(0, 0)
                self._control.close()
                channel, output = descriptors
                _work(channel, output, request["memory_mb"])
            with contextlib.suppress(OSError):  # the worker may have been faster
                os.setpgid(worker, worker)
            for descriptor in descriptors:
                os.close(descriptor)
            self._limits[worker] = request["memory_mb"]
            return {"process": worker}
        if request["operation"] == "ending":
            return self._find_ending(request["process"])
        for name in request["modules"]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        return {}

    def _find_ending(self, worker: int) -> dict[str, Any]:
        deadline = time.monotonic() + 2
        while worker not in self._endings and worker in self._limits and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.005)
        return self._endings.get(worker, {})

    def _watch_memory(self) -> None:
        for worker, most in list(self._limits.items()):
            if _measure_memory(worker) > most << 20:
                self._endings[worker] = {"memory": True}
                _kill_group(worker)

    def _reap(self) -> None:
        """Reap ended processes; kill what an ended worker leaves behind, and orphans that were adopted."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                break
            if ended.si_pid in self._limits:
                _kill_group(ended.si_pid)
                del self._limits[ended.si_pid]
                code = -ended.si_status if ended.si_code != os.CLD_EXITED else ended.si_status
                self._endings.setdefault(ended.si_pid, {})["code"] = code
                while len(self._endings) > _MOST_ENDINGS:
                    del self._endings[next(iter(self._endings))]
                self._kill_orphans()
            os.waitpid(ended.si_pid, 0)

    def _kill_orphans(self) -> None:
        for process in _list_children(os.getpid()):
            if process not in self._limits:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def _list_children(process: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _measure_memory(worker: int) -> int:
    """Return the resident bytes of a worker and of its descendants; 0 where the system does not show them."""
    total, pending = 0, [worker]
    page = resource.getpagesize()
    while pending:
        process = pending.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * page
        pending += _list_children(process)
    return total


def _kill_group(worker: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)


def _set_process_option(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _work(channel: int, output: int, memory_mb: int) -> NoReturn:
    """Load one model and predict its rows, until the service closes the channel."""
    try:
        parent = os.getppid()
        os.nice(_NICE)
        _set_process_option(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            most = (memory_mb << 20) + _measure_data()
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        random.seed()
        np.random.seed()
        _serve(socket.socket(fileno=channel))
    except (EOFError, ConnectionError):
        os._exit(0)
    except SystemExit as left:
        os._exit(left.code if isinstance(left.code, int) else 1)
    except BaseException:  # noqa: BLE001 - a model may raise anything; the process ends either way
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _measure_data() -> int:
    """Return the bytes that count for RLIMIT_DATA already."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
        return int(line.split()[1]) << 10
    return 1 << 30


def _serve(channel: socket.socket) -> None:
    predictor: Predictor | None = None
    while True:
        content = read_message(channel)
        try:
            if predictor is None:
                before = set(sys.modules)
                predictor = load(msgspec.msgpack.decode(content, type=Model))
                answer = Answer(modules=_list_new_modules(before))
            else:
                answer = _predict(predictor, content)
        except MemoryError:
            answer = Answer(ending="memory")
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the service reports it
            answer = _describe_error(error)
        write_message(channel, msgspec.msgpack.encode(answer))


def _predict(predictor: Predictor, content: bytearray) -> Answer:
    predictions = predictor.predict(pl.read_ipc_stream(bytes(content)))
    table = predictions.probabilities
    if table is None:
        return Answer(values=predictions.values)
    table = np.ascontiguousarray(table, dtype=np.float64)
    return Answer(values=predictions.values, shape=table.shape, probabilities=table.tobytes())


def _describe_error(error: Exception) -> Answer:
    if isinstance(error, TidemillError):
        kind: Literal["data", "tidemill"] = "data" if isinstance(error, DataError) else "tidemill"
        return Answer(error=kind, problem=error.problem, cure=error.cure, trace=traceback.format_exc()[-4000:])
    problem = f"{type(error).__name__}: {error}"[:500]
    return Answer(error="other", problem=problem, trace=traceback.format_exc()[-4000:])


def _list_new_modules(before: set[str]) -> list[str]:
    """Return the modules of well-known libraries that the model needed: the next worker finds them imported."""
    return [name for name in list(sys.modules) if name not in before and name.partition(".")[0] in _LIBRARIES]


def main(descriptor: int, path: list[str]) -> None:
    """Run the parent of the workers."""
    sys.path[:] = path
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Linux may schedule sessions as groups, and `nice` is only about the processes of one: all workers are one group.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICE), encoding="ascii")
    _set_process_option(_SET_CHILD_SUBREAPER, 1)
    with socket.socket(fileno=descriptor) as control:
        control.sendall(b"{}")
        _Host(control).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
