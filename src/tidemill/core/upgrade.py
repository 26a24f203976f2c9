"""Upgrade: how much a newer package or Python may change a trained model, and what changed."""

from typing import Annotated

from msgspec import Meta, Struct

from tidemill.clock import DurationText


class Upgrade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The comparison of two environments: the reference training runs in both, and both models answer the same rows.

    Attributes
    ----------
    ci
        Whether CI compares the environments of a commit whose lock or Python differs from the last passed build.
    rows
        The most rows of the reference training, and of the rows that both models answer: the newest ones.
    window
        How much of the journal both models answer; without predictions in it, they answer the rows of the training.
    predictions
        The largest difference of two answers that counts as equal: of probabilities, or of numbers divided by the
        standard deviation of the old answers.
    share
        The largest share of rows with a larger difference.
    metrics
        How much worse each metric on the test rows may be, as a share of its old value.
    timeout
        The most time for a training in one environment.
    memory_mb
        The most memory of a training.
    most_trainings
        The most trainings that search for the package that made a difference.
    """

    ci: bool = True
    rows: Annotated[int, Meta(ge=50)] = 5_000
    window: DurationText = "30d"
    predictions: Annotated[float, Meta(ge=0)] = 1e-6
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    metrics: Annotated[float, Meta(ge=0)] = 0.005
    timeout: DurationText = "30m"
    memory_mb: Annotated[int, Meta(ge=256)] = 8192
    most_trainings: Annotated[int, Meta(ge=0)] = 12


class VersionChange(Struct, frozen=True, kw_only=True):
    """A package, or `python`, with its version before and after; empty if it is not installed."""

    package: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.package} {self.before or '(none)'} → {self.after or '(none)'}"
