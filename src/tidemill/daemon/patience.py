"""Patience: what fails turn after turn is told once, and once more when it is over."""

from collections.abc import Callable

from tidemill.errors import TidemillError
from tidemill.telemetry import get_logger

log = get_logger("daemon")


class Patience:
    """Attempts the parts of a turn: a fault of one is told, and keeps no other from its turn."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        self._faults: dict[str, str] = {}

    def attempt(self, name: str, part: Callable[[], object]) -> bool:
        """Do a part; whether it went well."""
        try:
            part()
        except TidemillError as fault:
            self._tell(name, str(fault))
            return False
        except Exception as unforeseen:
            if self._tell(name, f"{type(unforeseen).__name__}: {unforeseen}; it is tried again"):
                log.exception("this part of the turn failed: %s", name)
            return False
        if self._faults.pop(name, None):
            self._told(f"daemon: {name}: well again")
        return True

    def _tell(self, name: str, said: str) -> bool:
        new = self._faults.get(name) != said
        # What keeps the whole daemon waiting says something else each time: the first line is enough.
        if new and not (name == "ledger" and name in self._faults):
            self._told(f"daemon: {name}: {said}")
        self._faults[name] = said
        return new
