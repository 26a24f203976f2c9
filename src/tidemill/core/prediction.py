"""Prediction: a row of the journal for each prediction or failure of a model, and how early a label can be known."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from tidemill.core.route import Role

LABEL_LEAD = timedelta(days=1)
"""A label can be known this long before its prediction was served: a search for labels starts this much earlier."""


class Prediction(Struct, frozen=True, kw_only=True):
    """A prediction, served at `known_at`, for the row with the key `key` and the event time `time`.

    `features` are the inputs as they were served. A shadow prediction has the `id` of the served prediction; id and
    release together are unique. `probability` has a value for each class of the signature; None for a regression.
    `milliseconds` is the time of the model's call, divided by its rows. `regime` is the value of the key that names the
    regimes, as text; None if the row has none, or no key is declared.
    """

    known_at: datetime
    id: str
    release: str
    version: int
    role: Role
    key: str
    time: datetime
    value: str | float
    probability: tuple[float, ...] | None = None
    milliseconds: float | None = None
    features: dict[str, Any] = {}
    regime: str | None = None


class Failure(Struct, frozen=True, kw_only=True):
    """A row that a release could not predict, at `known_at`; another release may have predicted it.

    `id`, `key` and `time` are those of the prediction that the row would have. `problem` is the kind of failure: the
    name of an error, or `not finite`.
    """

    known_at: datetime
    id: str
    release: str
    version: int
    role: Role
    key: str
    time: datetime
    problem: str


def failures_kind(model: str) -> str:
    """Return the kind of the journal with the failures of a model's releases."""
    return f"failures/{model}"
