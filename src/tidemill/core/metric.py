"""Metric: a number that says how good answers are: those of every project, in one table, and a project's own."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from msgspec import Struct

from tidemill.core.model import Task

NEEDS = ("truth", "predicted", "probabilities", "rows")


class MetricInfo(Struct, frozen=True, kw_only=True):
    """The facts about a metric: its direction, its name in a sentence, and what its function needs of `NEEDS`.

    A `standard` metric is measured on each slice and on live answers as well, and shown in lists; a `headline` metric
    comes first there. One that is not `always` defined needs labels that differ.
    """

    name: str
    tasks: tuple[Task, ...]
    greater_is_better: bool
    words: str
    needs: tuple[str, ...]
    standard: bool = False
    headline: bool = False
    always: bool = True


def _classification(name: str, needs: str, words: str = "", **facts: Any) -> MetricInfo:
    facts = {"greater_is_better": True} | facts
    words = words or name.replace("_", " ")
    return MetricInfo(name=name, tasks=("classification",), words=words, needs=("truth", needs), **facts)


def _regression(name: str, words: str = "", **facts: Any) -> MetricInfo:
    facts = {"greater_is_better": False} | facts
    words = words or name.replace("_", " ")
    return MetricInfo(name=name, tasks=("regression",), words=words, needs=("truth", "predicted"), **facts)


METRICS: dict[str, MetricInfo] = {
    one.name: one
    for one in (
        _classification("log_loss", "probabilities", greater_is_better=False, standard=True, headline=True),
        _classification("brier", "probabilities", "Brier score", greater_is_better=False, standard=True),
        _classification("error_rate", "predicted", greater_is_better=False, standard=True),
        _classification("roc_auc", "probabilities", "ROC AUC", standard=True, headline=True, always=False),
        _classification("average_precision", "probabilities", always=False),
        _classification("precision", "predicted"),
        _classification("recall", "predicted"),
        _classification("f1", "predicted"),
        _regression("rmse", "RMSE", standard=True, headline=True),
        _regression("mae", "MAE", standard=True),
        _regression("median_error"),
        _regression("r2", "R²", greater_is_better=True, standard=True, headline=True, always=False),
    )
}
"""Every metric that is not a project's own; `data/metrics.py` has the functions."""


def metrics_of(task: Task) -> tuple[str, ...]:
    """The names of the metrics of a task."""
    return tuple(one.name for one in METRICS.values() if task in one.tasks)


def default_metric(task: Task) -> str:
    """The metric that decides where the project names none."""
    return "log_loss" if task == "classification" else "rmse"


def info_of(name: str) -> MetricInfo:
    """The facts about a metric by its name; of one that only a project knows, what can be assumed."""
    known = METRICS.get(name)
    return known or MetricInfo(
        name=name,
        tasks=("classification", "regression"),
        greater_is_better=True,
        words=name.replace("_", " "),
        needs=("truth", "predicted"),
    )


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
        if wrong := [one for one in self.wants if one not in NEEDS]:
            raise TypeError(f"metric {self.name!r} asks for {', '.join(wrong)}; there are {', '.join(NEEDS)}")

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
