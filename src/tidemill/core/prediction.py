"""Prediction and label: the rows that the journal keeps of a model for every answer and every outcome."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from tidemill.core.route import Role

EARLIER = timedelta(days=1)
"""How long before its prediction was served a label may be known: who looks for labels looks so much further back."""


class Prediction(Struct, frozen=True, kw_only=True):
    """One answer: `features` as served, for the row that `key` names, at event time `time`, served at `known_at`.

    Shadow answers share the `id`; an answer is unique by id and release. `probability` has that of each class of the
    signature; a regression has none.
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
    features: dict[str, Any] = {}


class Label(Struct, frozen=True, kw_only=True):
    """One outcome, by prediction `id`, or by `key` and event `time`; of several the latest `known_at` wins."""

    known_at: datetime
    id: str = ""
    key: str = ""
    time: datetime | None = None
    value: str | float
