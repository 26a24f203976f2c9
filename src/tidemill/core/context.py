"""Context: the run and the environment of a step."""

from typing import Any, ClassVar

from msgspec import Struct


class Context(Struct, frozen=True, kw_only=True):
    """The run, the environment and the cause of a step. A step with a `Context` parameter is never cached."""

    writable: ClassVar[bool] = False
    volatile: ClassVar[bool] = True

    run: str
    step: str
    environment: str
    model: str
    cause: dict[str, Any]
