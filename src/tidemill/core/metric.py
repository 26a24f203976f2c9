"""Metric: a number of a project's own that says how good answers are; its code is its version."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from msgspec import Struct

GIVEN = ("truth", "predicted", "probabilities", "rows")


class MetricVersion(Struct, frozen=True, kw_only=True):
    """A metric by its name and the digest of its code; `greater_is_better` says which way it points."""

    name: str
    version: str
    greater_is_better: bool = True


class Metric:
    """A function of a project's `pipeline.py` that measures; it is called with what its parameters name.

    `truth` and `predicted` are class names or numbers, shape (rows,); `probabilities` are of shape (rows, classes), in
    the order of the classes' names; `rows` is the frame of the inputs.
    """

    def __init__(self, function: Callable[..., float], *, greater_is_better: bool, name: str) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "metric")
        self.greater_is_better = greater_is_better
        self.wants = tuple(signature(function).parameters)
        if wrong := [one for one in self.wants if one not in GIVEN]:
            raise TypeError(f"metric {self.name!r} asks for {', '.join(wrong)}; there are {', '.join(GIVEN)}")

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        return self.function(*args, **kwargs)


def metric(function: Callable[..., float] | None = None, *, greater_is_better: bool = True, name: str = "") -> Any:
    """Make a function of `pipeline.py` a metric, which a training computes for the candidate and the champion.

    The function gets what its parameters name: `truth` and `predicted` (class names or numbers, shape (rows,)),
    `probabilities` (shape (rows, classes), in the order of the class names), `rows` (the frame of the inputs).

    Parameters
    ----------
    greater_is_better
        Whether a higher value is better.
    name
        The metric's name; the default is the function's name.
    """
    if function is None:
        return lambda given: Metric(given, greater_is_better=greater_is_better, name=name)
    return Metric(function, greater_is_better=greater_is_better, name=name)
