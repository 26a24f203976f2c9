"""Patience: report an error that repeats once, and once more when the part has recovered."""

from collections.abc import Callable

from tidemill.errors import TidemillError
from tidemill.telemetry import get_logger

log = get_logger("daemon")


class Patience:
    """Runs the parts of the daemon's loop: an error in one part is reported, and the other parts run."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._errors: dict[str, str] = {}

    def attempt(self, name: str, part: Callable[[], object]) -> bool:
        """Run a part; return whether it succeeded."""
        try:
            part()
        except TidemillError as error:
            self._report(name, str(error))
            return False
        except Exception as error:
            if self._report(name, f"{type(error).__name__}: {error}; the daemon tries again"):
                log.exception("this part of the daemon failed: %s", name)
            return False
        if self._errors.pop(name, None):
            self._notify(f"daemon: {name}: recovered")
        return True

    def _report(self, name: str, message: str) -> bool:
        is_new = self._errors.get(name) != message
        # The message of an unavailable ledger changes with each attempt: the first one is enough.
        if is_new and not (name == "ledger" and name in self._errors):
            self._notify(f"daemon: {name}: {message}")
        self._errors[name] = message
        return is_new
