"""Processes for the suites: a function that runs another function in several processes at the same time."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_start: Any = None


def run_in_processes(number: int, function: Callable[..., T], *arguments: Any) -> list[T]:
    """Run `function(index, *arguments)` in several new processes at the same time, and return the results.

    Function, arguments and results must be picklable. The error of a process is raised here; a killed process raises
    `BrokenProcessPool`.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number)
    with ProcessPoolExecutor(number, mp_context=context, initializer=_set_barrier, initargs=(barrier,)) as pool:
        futures = [pool.submit(_run_at_barrier, function, index, arguments) for index in range(number)]
        return [future.result(timeout=120) for future in futures]


def _set_barrier(barrier: Any) -> None:
    global _start
    _start = barrier


def _run_at_barrier(function: Callable[..., T], index: int, arguments: tuple[Any, ...]) -> T:
    _start.wait(timeout=60)
    return function(index, *arguments)
