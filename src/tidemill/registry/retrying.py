"""Retries of decisions that another process has overtaken: they are made again on the new state, a bounded number of
times.
"""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from tidemill.errors import Overtaken

R = TypeVar("R")
C = TypeVar("C", bound=type)
_TRIES = 50
_LONGEST_PAUSE = 0.2  # seconds


def retry_overtaken(action: Callable[[], R], is_possible: Callable[[], bool] = lambda: True) -> R:
    """Return the result of an action that reads the state and writes a record; repeat it if it was overtaken.

    Raises
    ------
    Overtaken
        if other processes are faster again and again, or if the action `is_possible` no longer.
    """
    for tried in range(1, _TRIES):
        try:
            return action()
        except Overtaken:
            if not is_possible():
                raise
            # Processes that were overtaken together must not come back together.
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.005 * tried)))
    return action()


def retrying(*methods: str, guard: str = "") -> Callable[[C], C]:
    """Return a class decorator that repeats these methods with `retry_overtaken`.

    The method `guard` returns, for the first argument, what must not have changed for another try.
    """

    def decorate(cls: C) -> C:
        for name in methods:
            setattr(cls, name, _retried(getattr(cls, name), guard))
        return cls

    return decorate


def _retried(method: Callable[..., Any], guard: str) -> Callable[..., Any]:
    @wraps(method)
    def repeat(self: Any, subject: Any, *arguments: Any, **named: Any) -> Any:
        def read() -> Any:
            return getattr(self, guard)(subject) if guard else None

        before = read()
        return retry_overtaken(lambda: method(self, subject, *arguments, **named), lambda: bool(read() == before))

    return repeat
