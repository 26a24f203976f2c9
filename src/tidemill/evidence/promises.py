"""Promised against observed: the figures of a policy's status, and the words for them in the command and the page."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from tidemill.core.promise import Promise

PromiseState = Literal["none", "changed", "waiting", "in force"]

COLUMNS = ("figure", "promised", "expected by now (95 %)", "observed", "result")


class Figure(Struct, frozen=True, kw_only=True):
    """One figure of a promise: per row for a loss, per 30 days for a count.

    `low` and `high` are the interval in which the observed figure is expected with 95 %, for as long as was observed;
    `observed` is None if nothing was, and `holds` None if that cannot be judged.
    """

    name: str
    promised: float | None
    low: float | None = None
    high: float | None = None
    observed: float | None = None
    holds: bool | None = None

    @property
    def result(self) -> str:
        """Whether the figure is as promised, in words."""
        if self.observed is None:
            return "not observed"
        if self.holds is None:
            return "cannot be judged yet"
        if self.holds:
            return "holds"
        assert self.high is not None
        return "higher than promised" if self.observed > self.high else "lower than promised"


class PolicyStatus(Struct, frozen=True, kw_only=True):
    """A model's policy in an environment: its promise, and what was observed.

    `changed` names the tables of `tidemill.toml` that differ from the newest promise. `since` is the time from which
    the policy has been in force, or from which the promise holds.
    """

    model: str
    environment: str
    state: PromiseState
    text: str
    promise: Promise | None = None
    changed: list[str] = []
    since: datetime | None = None
    days: float = 0.0
    predictions: int = 0
    labels: int = 0
    figures: list[Figure] = []


def describe_promise(promise: Promise) -> str:
    """Return when a promise was stated, by which command, and from which rows."""
    command = "tidemill backtest --tune" if promise.by == "tune" else "tidemill backtest"
    rows = sum(count for count, _ in promise.weeks)
    return (
        f"promised on {promise.stated:%Y-%m-%d} by `{command}`, from {rows:,} labelled rows of "
        f"{promise.begin:%Y-%m-%d} to {promise.end:%Y-%m-%d}"
    )


def describe_observation(status: PolicyStatus, since: str) -> str:
    """Return how much was observed; `since` is the formatted time from which it was."""
    return (
        f"observed since {since}: {status.days:.1f} days, {status.predictions:,} predictions, {status.labels:,} of "
        "them labelled"
    )


def format_figure(figure: Figure, metric: str) -> tuple[str, str, str, str, str]:
    """Return a figure as the texts of `COLUMNS`; `metric` is the name of the loss."""
    interval = "" if figure.low is None else f"{_format(figure.low)} to {_format(figure.high)}"
    name = figure.name if figure.name == metric else f"{figure.name} in 30 days"
    return name, _format(figure.promised), interval, _format(figure.observed), figure.result


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
