"""Other processes for the suites: what holds between processes is tried between processes."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_start: Any = None


def in_processes(number: int, function: Callable[..., T], *arguments: Any) -> list[T]:
    """What `function(place, *arguments)` returns in each of that many fresh processes, all at work at once.

    All of it must be picklable. An error in one of them is raised here; `BrokenProcessPool` where one was killed.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number)
    with ProcessPoolExecutor(number, mp_context=context, initializer=_ready, initargs=(barrier,)) as pool:
        futures = [pool.submit(_together, function, place, arguments) for place in range(number)]
        return [future.result(timeout=120) for future in futures]


def _ready(barrier: Any) -> None:
    global _start
    _start = barrier


def _together(function: Callable[..., T], place: int, arguments: tuple[Any, ...]) -> T:
    _start.wait(timeout=60)
    return function(place, *arguments)
