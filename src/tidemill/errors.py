"""Every error that Tidemill raises on purpose.

::

    TidemillError                 an error, with the action that fixes it     exit 1
    ├── InputError                an input cannot be used                     exit 2
    │   ├── ConfigurationError    a file of the project has an error
    │   ├── DataError             a table cannot be used
    │   │   └── Unreadable        the bytes are not a table
    │   │       ├── TooLarge          it has more rows, or needs more memory, than its source allows
    │   │       │   └── TooMuchMemory     it needs more memory at once, so it may be read in parts
    │   │       └── UnreadableNow     reading it again may help: a file changes, or its permissions do
    │   └── NotFound              nothing has this name or id
    ├── AccessDenied              a token is missing, invalid, or not enough  exit 1
    ├── Stopped                   a check stopped the run                     exit 3
    ├── Cancelled                 a person cancelled the run                  exit 130
    ├── StepFailed                a step raised an error
    ├── Conflict                  another process changed the record first
    │   └── Overtaken             another process wrote a record with the same keys: decide again
    ├── Corrupt                   bytes do not match their digest
    ├── MissingExtra              an optional package is not installed
    └── Transient                 a temporary error: try again
        ├── TimedOut              it took longer than its limit
        └── StoreMissing          a store that was created is not at its path

A message has the problem, with the object, and then the action that fixes it. A step with `retries` runs again after a
`Transient`, and after Python's `ConnectionError` and `TimeoutError`.
"""

from typing import Any


class TidemillError(Exception):
    """An error; `problem` says what happened to which object, `cure` is the action that fixes it."""

    exit_code = 1

    def __init__(self, problem: str, cure: str = "") -> None:
        super().__init__(problem, cure)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem} — {self.cure}" if self.cure else self.problem

    def __reduce__(self) -> tuple[Any, ...]:
        """Make errors picklable, so that another process can raise them."""
        return _rebuild_error, (type(self), self.problem, self.cure, self.__dict__)


def _rebuild_error(kind: type[TidemillError], problem: str, cure: str, state: dict[str, Any]) -> TidemillError:
    error = kind.__new__(kind)
    TidemillError.__init__(error, problem, cure)
    error.__dict__.update(state)
    return error


class InputError(TidemillError):
    """An input cannot be used."""

    exit_code = 2


class ConfigurationError(InputError):
    """A file of the project has an error."""


class DataError(InputError):
    """A table cannot be read, or does not fit its use."""


class Unreadable(DataError):
    """The bytes are not a table; reading them again does not help."""


class TooLarge(Unreadable):
    """A file has more rows, or needs more memory, than its source allows."""


class TooMuchMemory(TooLarge):
    """A file needs more memory at once than its source allows; some formats are then read in parts."""


class UnreadableNow(Unreadable):
    """A file cannot be read at present; the next ingestion reads it again."""


class NotFound(InputError):
    """Nothing has this name or id."""


class AccessDenied(TidemillError):
    """A token is missing or invalid (status 401), or does not allow the request (status 403)."""

    def __init__(self, problem: str, cure: str, status: int = 401) -> None:
        super().__init__(problem, cure)
        self.status = status


class Stopped(TidemillError):
    """A check stopped the run."""

    exit_code = 3


class Cancelled(TidemillError):
    """A person cancelled the run."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("the run was cancelled", "resume it: `tidemill runs resume`")


class StepFailed(TidemillError):
    """A step raised an error; `step` is its name and `log` contains the traceback."""

    def __init__(self, step: str, problem: str, cure: str, log: str = "") -> None:
        super().__init__(problem, cure)
        self.step = step
        self.log = log


class Conflict(TidemillError):
    """Another process changed the record first."""


class Overtaken(Conflict):
    """Another process wrote a record with the same keys first; a decision that is made again can succeed."""


class Corrupt(TidemillError):
    """Bytes do not match their digest."""


class MissingExtra(TidemillError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f"pip install 'tidemill[{extra}]'")


class Transient(TidemillError):
    """A temporary error: the same call can work later."""


class TimedOut(Transient):
    """A call took longer than its limit, and was ended."""


class StoreMissing(Transient):
    """A store that was created is not at its path; it is used again when it is back."""
