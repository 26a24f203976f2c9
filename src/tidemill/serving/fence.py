"""The fence around models: models that can run foreign code predict in processes of their own, with limits.

Only LightGBM models of a Tidemill run without transformations predict in the process of the service: they are trees as
text, so their prediction runs no code of other people, and its time depends only on the rows.
"""

import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tidemill.core.model import Model
from tidemill.core.serving import Serving
from tidemill.errors import TidemillError, Transient
from tidemill.models.load import load
from tidemill.models.predictions import Predictor
from tidemill.serving.fenced import FencedPredictor, Incident
from tidemill.serving.worker import Worker
from tidemill.telemetry import get_logger

log = get_logger("serving")
_START_SECONDS = 60.0
_PASSED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")
_PASSED_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "PYTHON", "CUDA_", "NVIDIA_", "ORT_", "SSL_CERT_")
_MOST_OUTPUT = 65_536
_PROGRAM = "tidemill.serving.fence_process"


def needs_fence(model: Model) -> bool:
    """Return whether the prediction of a package can run code of other people, or can run without end."""
    features = model.manifest.features
    return model.manifest.flavor != "lightgbm" or bool(features and features.transformations)


class Fence:
    """Loads packages: each that needs it in worker processes, which `close` ends.

    `report` is called when a worker was ended, in the thread that noticed it.
    """

    def __init__(self, report: Callable[[Incident], None] | None = None) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._output = _OutputReader()
        self._is_closed = False
        self._warm: set[str] = set()
        self._predictors: weakref.WeakSet[FencedPredictor] = weakref.WeakSet()

    def load(self, model: Model, name: str, limits: Serving) -> Predictor:
        """Return the predictor of a package; `name` is its release, for messages.

        Raises
        ------
        TidemillError
            if it cannot be loaded, as `tidemill.models.load.load`; or not within the limits.
        """
        if not needs_fence(model):
            return load(model)
        predictor = FencedPredictor(self, model, name, limits)
        self._predictors.add(predictor)
        predictor.start()
        return predictor

    def start_worker(self, memory_mb: int) -> Worker:
        """Fork a worker; raise `TidemillError` if the fence is closed or its process cannot be started."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            response = self._request({"operation": "fork", "memory_mb": memory_mb}, (theirs.fileno(), writing))
        except BaseException:
            ours.close()
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        worker = Worker(response["process"], ours, self._find_ending)
        self._output.add(reading, worker)
        return worker

    def warm_up(self, modules: list[str]) -> None:
        """Import libraries before the next worker is forked."""
        new = sorted(set(modules) - self._warm)
        if new:
            self._warm.update(new)
            with suppress(TidemillError):
                self._request({"operation": "import", "modules": new})

    def note(self, incident: Incident) -> None:
        """Log that a worker was ended, and report it."""
        log.error("release %s was ended: it %s", incident.release, incident.reason)
        if self._report is not None and not self._is_closed:
            try:
                self._report(incident)
            except Exception:
                log.exception("the end of release %s could not be reported", incident.release)

    def close(self) -> None:
        """End all workers at once; their open predictions fail."""
        with self._lock:
            self._is_closed = True
            process, control, self._process, self._control = self._process, self._control, None, None
        for predictor in list(self._predictors):
            predictor.close()
        if control is not None:
            control.close()
        if process is not None:
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._output.close()

    def _find_ending(self, process: int) -> dict[str, Any]:
        with suppress(TidemillError):
            return self._request({"operation": "ending", "process": process})
        return {}

    def _request(self, request: dict[str, Any], descriptors: tuple[int, ...] = ()) -> dict[str, Any]:
        with self._lock:
            for attempt in range(2):
                if self._is_closed:
                    raise Transient("the service is stopping", "send the request again")
                try:
                    if self._control is None:
                        self._start()
                    assert self._control is not None
                    socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
                    content = self._control.recv(1 << 16)
                    if content:
                        return dict(json.loads(content))
                    raise ConnectionError("it ended")
                except OSError as error:
                    log.warning("the process that starts the workers of models must be started again: %s", error)
                    self._drop()
                    if attempt:
                        raise TidemillError(
                            f"no process can be started for a model: {error}", "free some memory, then try again"
                        ) from None
            raise AssertionError

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM, str(theirs.fileno()), *sys.path],
                env=_select_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.settimeout(_START_SECONDS)
        if not ours.recv(16):
            ours.close()
            raise ConnectionError("it ended before it was ready")
        self._control = ours

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._control = None


def _select_environment() -> dict[str, str]:
    """Return the variables that models see: no address, token or key."""
    passed = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return passed | {"PYTHONPATH": path, "POLARS_ALLOW_FORKING_THREAD": "1"}


class _OutputReader:
    """Reads what workers print, in one thread: the beginning goes to the log, the rest is dropped."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._new: list[tuple[int, Worker]] = []
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def add(self, descriptor: int, worker: Worker) -> None:
        with self._lock:
            self._new.append((descriptor, worker))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tidemill-output", daemon=True)
                self._thread.start()
        self._waker.send(b"x")

    def close(self) -> None:
        self._is_closed = True
        with suppress(OSError):
            self._waker.send(b"x")
        if self._thread is not None:
            self._thread.join(1)

    def _run(self) -> None:
        while not self._is_closed:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake:
                    with suppress(BlockingIOError):
                        self._wake.recv(4096)
                    with self._lock:
                        new, self._new = self._new, []
                    for descriptor, worker in new:
                        self._selector.register(descriptor, selectors.EVENT_READ, [worker, 0])
                    continue
                content = os.read(key.fd, 65_536)
                worker, printed = key.data
                if not content:
                    self._selector.unregister(key.fd)
                    os.close(key.fd)
                elif printed < _MOST_OUTPUT:
                    text = content[: _MOST_OUTPUT - printed].decode(errors="replace").rstrip()
                    log.info("model process %d printed: %s", worker.process, text)
                    if printed + len(content) >= _MOST_OUTPUT:
                        log.warning("model process %d prints too much: the rest is dropped", worker.process)
                    key.data[1] += len(content)
