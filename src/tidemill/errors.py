"""Every error that Tidemill raises on purpose.

::

    TidemillError                 something went wrong, with its cure       exit 1
    ├── InputError                what the user gave cannot be used         exit 2
    │   ├── ConfigurationError    a file of the project does not fit
    │   ├── DataError             a table cannot be read or does not fit
    │   └── NotFound              a name or an id that nothing has
    ├── Stopped                   a check said stop                         exit 3
    ├── StepFailed                a step raised
    ├── Conflict                  somebody else changed it first
    ├── Corrupt                   bytes do not match their digest
    ├── MissingExtra              an optional package is not installed
    └── Transient                 may work when tried again

An error says what happened, to what, and the cure. Retrying needs no list: what may be retried is `Transient`.
"""

from typing import Any


class TidemillError(Exception):
    """Something went wrong; `cure` says what to do about it."""

    exit_code = 1

    def __init__(self, problem: str, cure: str = "") -> None:
        super().__init__(problem, cure)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem} — {self.cure}" if self.cure else self.problem

    def __reduce__(self) -> tuple[Any, ...]:
        """An error may come from another process, whatever its own arguments are."""
        return _error_again, (type(self), self.problem, self.cure, self.__dict__)


def _error_again(kind: type[TidemillError], problem: str, cure: str, state: dict[str, Any]) -> TidemillError:
    error = kind.__new__(kind)
    TidemillError.__init__(error, problem, cure)
    error.__dict__.update(state)
    return error


class InputError(TidemillError):
    """What the user gave cannot be used."""

    exit_code = 2


class ConfigurationError(InputError):
    """A file of the project does not fit."""


class DataError(InputError):
    """A table cannot be read, or does not fit what is asked of it."""


class Unreadable(DataError):
    """The bytes of a table are no table, and will be none when they are read again."""


class NotFound(InputError):
    """A name or an id that nothing has."""


class Stopped(TidemillError):
    """A check said stop."""

    exit_code = 3


class StepFailed(TidemillError):
    """A step raised; `step` names it and `log` holds its traceback."""

    def __init__(self, step: str, problem: str, cure: str, log: str = "") -> None:
        super().__init__(problem, cure)
        self.step = step
        self.log = log


class Conflict(TidemillError):
    """Somebody else changed it first."""


class Corrupt(TidemillError):
    """Bytes do not match their digest."""


class MissingExtra(TidemillError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f"pip install 'tidemill[{extra}]'")


class Transient(TidemillError):
    """May work when tried again."""
