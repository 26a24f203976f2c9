"""MachineFacts: what a fresh process of an environment finds on its machine."""

from msgspec import Struct


class MachineFacts(Struct, frozen=True, kw_only=True):
    """The Python version, the packages, the memory and the accelerators that a process of an environment has.

    `memory_mb` is the least of the free memory of the machine, the limit of the control group and that of the process.
    `memory_limit` names which of them it is. `error` is why the interpreter could not be started.
    """

    python: str = ""
    packages: dict[str, str] = {}
    memory_mb: float = 0.0
    memory_limit: str = ""
    accelerators: tuple[str, ...] = ()
    error: str = ""
