"""PackageProbe: the measurements of a model package in a fresh process."""

from typing import Any

from msgspec import Struct


class PackageProbe(Struct, frozen=True, kw_only=True):
    """The predictions (`scores`) of a package in a fresh process, and the time and memory that they needed.

    `where` describes the environment of the process, `warning` how it differs from the package lock. `latency_ms` is
    the median for single rows, `memory_mb` the peak of the process. `error` is the reason if there are no predictions;
    `missing` is a module that the package imports and that is not in its lock.
    """

    where: str
    warning: str = ""
    error: str = ""
    missing: str = ""
    scores: list[Any] = []
    same_twice: bool = True
    latency_ms: float = 0.0
    memory_mb: float = 0.0
    size_mb: float = 0.0
