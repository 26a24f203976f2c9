"""Prediction and label: the rows that the journal keeps for every answer and every outcome."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from tidemill.core.route import Role


class Prediction(Struct, frozen=True, kw_only=True):
    """One answer: `features` as served, for the row that `key` names, at event time `time`, served at `known_at`.

    Shadow answers share the `id`; an answer is unique by id and release. `probabilities` follow the signature's
    classes; a regression has none.
    """

    id: str
    model: str
    release: str
    role: Role
    key: str
    time: datetime
    known_at: datetime
    value: str | float
    probabilities: tuple[float, ...] = ()
    features: dict[str, Any] = {}


class Label(Struct, frozen=True, kw_only=True):
    """One outcome, by prediction `id`, or by `key` and event `time`; of several the latest `known_at` wins."""

    value: str | float | bool
    known_at: datetime
    id: str = ""
    key: str = ""
    time: datetime | None = None
