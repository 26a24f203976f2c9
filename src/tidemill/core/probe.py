"""PackageProbe: what a model package did in a fresh process."""

from typing import Any

from msgspec import Struct


class PackageProbe(Struct, frozen=True, kw_only=True):
    """What a package did in a fresh process: its answers `scores`, and the time and memory that they needed.

    `where` says what that process was, `warning` what it was not. `latency_ms` is the median of single rows,
    `memory_mb` the peak of the process. `error` says why there are no answers, and `missing` names a module that the
    package imports and its lock does not name.
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
