"""Promise: what a backtest states about a policy, to compare it with what happens later."""

from datetime import datetime

from msgspec import Struct

PROMISE_KIND = "promise"
"""The kind of the events that carry a promise; their subject is the model."""


class Promise(Struct, frozen=True, kw_only=True):
    """The figures of a policy in a backtest.

    Attributes
    ----------
    model
        The model.
    policy
        The digest of the policy.
    tables
        The digest of each of its tables, to name those that change later.
    by
        The command that stated it: `backtest` or `tune`.
    stated
        When.
    begin
        The begin of the replayed period.
    end
        Its end.
    metric
        The name of the loss per prediction: `log loss` or `squared error`.
    weeks
        The labelled rows and the mean loss of each week.
    trainings
        The number of trainings after the first one.
    alarms
        The number of trainings that a check requested.
    false_alarms
        How many of them led to no better model.
    promotions
        The number of canaries that became champion.
    rollbacks
        The number of canaries that were rolled back.
    wrong_promotions
        How many promoted models were worse than the champion before them, on the next 14 days and beyond the margin.
        None was not measured.
    """

    model: str
    policy: str
    tables: dict[str, str]
    by: str
    stated: datetime
    begin: datetime
    end: datetime
    metric: str
    weeks: list[tuple[int, float]]
    trainings: int
    alarms: int
    false_alarms: int
    promotions: int
    rollbacks: int
    wrong_promotions: int | None = None

    @property
    def loss(self) -> float:
        """The mean loss over all labelled rows."""
        return sum(rows * loss for rows, loss in self.weeks) / sum(rows for rows, _ in self.weeks)

    @property
    def days(self) -> float:
        """The length of the period."""
        return (self.end - self.begin).total_seconds() / 86_400
