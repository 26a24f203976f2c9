"""PackageProbe: the measurements of a model package in a fresh process, and the port that makes them."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

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


class Environments(Protocol):
    """Fresh processes in which only the packages of a lock are installed."""

    writable: ClassVar[bool] = False

    def probe(
        self, files: dict[str, bytes], rows: list[dict[str, Any]], warm: Sequence[str] = (), *, strict: bool = False
    ) -> PackageProbe:
        """Load the package with these files in a fresh process and predict these rows.

        With `strict`, the environment is always built from the lock. `warm` names modules that the process can import
        early and keep for the next package with the same lock.
        """
        ...
