"""Context: where a step runs."""

from typing import Any, ClassVar

from msgspec import Struct


class Context(Struct, frozen=True, kw_only=True):
    """Where a step runs: the run, the environment and the cause. A step with a `Context` parameter is never cached."""

    writable: ClassVar[bool] = False
    volatile: ClassVar[bool] = True

    run: str
    step: str
    environment: str
    model: str
    cause: dict[str, Any]
