"""Lanes: threads for the requests of one model, so that a slow model takes no thread of another one."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tidemill.serving.metrics import ServiceMetrics
from tidemill.telemetry import get_logger

log = get_logger("serving")
T = TypeVar("T")
_THREADS = 8
_MOST_SHADOW_REQUESTS = 500


class Lanes:
    """Thread pools by name; a lane is made by its first request."""

    def __init__(self) -> None:
        self._pools: dict[str, ThreadPoolExecutor] = {}

    async def run(self, lane: str, handle: Callable[[str, bytes], T], path: str, body: bytes) -> T:
        """Return the result of `handle(path, body)` from a thread of a lane."""
        pool = self._pools.get(lane)
        if pool is None:
            pool = self._pools[lane] = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"tidemill-{lane}")
        return await asyncio.get_running_loop().run_in_executor(pool, handle, path, body)

    def close(self) -> None:
        """Start no more requests."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


class ShadowQueue:
    """Asks shadows after the reply, in one thread for each model; what waits for too slow a shadow is dropped."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self._busy = 0
        self._is_closing = False

    def add(self, model: str, task: Callable[[], None]) -> None:
        """Run a task later."""
        with self._changed:
            waiting = self._waiting.get(model)
            if waiting is None:
                waiting = self._waiting[model] = deque()
                threading.Thread(
                    target=self._run, args=(waiting,), name=f"tidemill-shadow-{model}", daemon=True
                ).start()
            if len(waiting) < _MOST_SHADOW_REQUESTS:
                waiting.append(task)
                self._changed.notify_all()
                return
        self._metrics.count("tidemill_shadow_dropped_total", model=model)

    def close(self, seconds: float) -> None:
        """Wait until nothing waits, for at most so many seconds; then drop the rest."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (self._busy or any(self._waiting.values())) and time.monotonic() < deadline:
                self._changed.wait(max(0.0, deadline - time.monotonic()))
            self._is_closing = True
            self._changed.notify_all()

    def _run(self, waiting: deque[Callable[[], None]]) -> None:
        while True:
            with self._changed:
                while not waiting and not self._is_closing:
                    self._changed.wait()
                if self._is_closing:
                    return
                task = waiting.popleft()
                self._busy += 1
            try:
                task()
            except Exception:
                log.exception("a shadow could not be asked")
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
