"""Metrics: functions that measure predictions. One table has the built-in metrics; a project can add its own."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from msgspec import Meta, Struct

from tidemill.core.model import PredictionTask

Threshold = Annotated[str, Meta(pattern=r"^(>=|<=|>|<) *-?[0-9]+(\.[0-9]+)?$")]
"""A limit of a metric: a sign and a number, such as `>= 0.7`."""

T = TypeVar("T")

NEEDS = ("truth", "predicted", "probabilities", "rows")


class MetricInfo(Struct, frozen=True, kw_only=True):
    """The description of a metric: its direction, its name in a sentence (`words`), and the arguments it `needs`.

    A `standard` metric is also measured on each slice and on live predictions, and shown in lists; a `headline` metric
    comes first there. A metric that is not `always` defined needs at least two different labels.
    """

    name: str
    tasks: tuple[PredictionTask, ...]
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
    metric_info.name: metric_info
    for metric_info in (
        _classification("log_loss", "probabilities", greater_is_better=False, standard=True, headline=True),
        _classification("brier", "probabilities", "Brier score", greater_is_better=False, standard=True),
        _classification("error_rate", "predicted", greater_is_better=False, standard=True),
        _classification("roc_auc", "probabilities", "ROC AUC", standard=True, headline=True, always=False),
        _classification("average_precision", "probabilities", always=False),
        _classification("precision", "predicted"),
        _classification("recall", "predicted"),
        _classification("f1", "predicted", "F1"),
        _regression("rmse", "RMSE", standard=True, headline=True),
        _regression("mae", "MAE", standard=True),
        _regression("median_error"),
        _regression("r2", "R²", greater_is_better=True, standard=True, headline=True, always=False),
    )
}
"""The built-in metrics; their functions are in `data/metrics.py`."""


def list_metrics(task: PredictionTask) -> tuple[str, ...]:
    """Return the names of the built-in metrics of a task."""
    return tuple(info.name for info in METRICS.values() if task in info.tasks)


def order_metrics(values: Mapping[str, T]) -> dict[str, T]:
    """Return values by metric in the order of `METRICS`, then other ones: JSON does not keep the order of names.

    >>> list(order_metrics({"own": 1.0, "test_roc_auc": 0.8, "test_log_loss": 0.3}))
    ['test_log_loss', 'test_roc_auc', 'own']
    """
    places = {name: place for place, name in enumerate(METRICS)}
    return dict(sorted(values.items(), key=lambda item: places.get(_remove_set(item[0]), len(places))))


def _remove_set(name: str) -> str:
    """Return the metric of a name such as `test_log_loss`."""
    return name if name in METRICS else name.partition("_")[2]


def default_metric(task: PredictionTask) -> str:
    """Return the main metric of a project that sets none."""
    return "log_loss" if task == "classification" else "rmse"


def find_metric_info(name: str) -> MetricInfo:
    """Return the description of a metric; for a metric of a project, a description with default values."""
    known = METRICS.get(name)
    return known or MetricInfo(
        name=name,
        tasks=("classification", "regression"),
        greater_is_better=True,
        words=name.replace("_", " "),
        needs=("truth", "predicted"),
    )


class MetricVersion(Struct, frozen=True, kw_only=True):
    """The name of a metric and the digest of its code; `greater_is_better` is its direction."""

    name: str
    version: str
    greater_is_better: bool = True


class Metric:
    """A metric of a project's `pipeline.py`: a function that is called with the arguments that its parameters name.

    `truth` and `predicted` are class names or numbers, shape (rows,); `probabilities` are of shape (rows, classes), in
    the order of the classes' names; `rows` is the frame of the inputs.
    """

    def __init__(self, function: Callable[..., float], *, greater_is_better: bool, name: str) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "metric")
        self.greater_is_better = greater_is_better
        self.parameters = tuple(signature(function).parameters)
        if unknown := [name for name in self.parameters if name not in NEEDS]:
            raise TypeError(
                f"metric {self.name!r} has the unknown parameters {', '.join(unknown)}; "
                f"a metric can have: {', '.join(NEEDS)}"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        return self.function(*args, **kwargs)


def metric(function: Callable[..., float] | None = None, *, greater_is_better: bool = True, name: str = "") -> Any:
    """Define a function of `pipeline.py` as a metric. A training computes it for the candidate and the champion.

    The function gets the arguments that its parameters name: `truth` and `predicted` (class names or numbers, shape
    (rows,)), `probabilities` (shape (rows, classes), in the order of the class names) and `rows` (the frame of
    inputs).

    Parameters
    ----------
    greater_is_better
        Whether a higher value is better.
    name
        The metric's name; the default is the function's name.
    """
    if function is None:
        return lambda decorated: Metric(decorated, greater_is_better=greater_is_better, name=name)
    return Metric(function, greater_is_better=greater_is_better, name=name)


class ProjectMetrics(Protocol):
    """The metrics that the project's code defines."""

    writable: ClassVar[bool] = False

    def versions(self) -> list[MetricVersion]:
        """Return the name, the digest of the code and the direction of each metric, in the order of the names."""

    def metric(self, name: str) -> Metric:
        """Return the metric with that name; raise `NotFound` if there is none."""
