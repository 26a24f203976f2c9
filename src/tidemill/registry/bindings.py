"""Bindings: the regimes that a key names, the releases trained for them, and the trainings requested for them."""

from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import Struct, convert

from tidemill.core.resources import BooksReader
from tidemill.errors import NotFound

BINDING = "binding"
"""The check of whether a value of the key needs a release of its own."""
REGIME = "regime"
"""The part of a release's data that names the regime of its training rows."""
_MOST_DROPPED = 50


class ReleaseRegime(Struct, frozen=True, kw_only=True):
    """The rows that a release was trained on: those whose column `key` has the value `value`."""

    key: str
    value: str


class KeyCounts(Struct, frozen=True, kw_only=True):
    """The labelled rows of each value of the key until a time, and how many each had when a training was requested."""

    key: str
    until: datetime
    labelled: dict[str, int] = {}
    requested: dict[str, int] = {}


class _Request(Struct, frozen=True, kw_only=True):
    """The evidence of a verdict that requests a training for one value."""

    key: str = ""
    value: str = ""


def read_regime(data: dict[str, Any]) -> ReleaseRegime | None:
    """Return the regime of a release's training rows, from its data; None if they were not chosen by a key."""
    return convert(data[REGIME], ReleaseRegime) if REGIME in data else None


def find_requested_value(books: BooksReader, event: str, key: str) -> str:
    """Return the value of the key for which the verdict of an event requests a training; empty if it names none."""
    for found in books.events.find(id=event, limit=1) if event and key else ():
        with suppress(NotFound):
            request = books.verdicts.get(found.cause).read(_Request)
            return request.value if request.key == key else ""
    return ""


def find_counts(books: BooksReader, environment: str, model: str, key: str) -> KeyCounts | None:
    """Return the counts of the newest verdict on the values of a key; None if there is none.

    A request whose job was dropped, for example because its budget was spent, does not count.
    """
    newest = books.verdicts.find(check="regime", model=model, environment=environment, newest=True, limit=1)
    if not newest or newest[0].evidence.get("key") != key:
        return None
    counts = newest[0].read(KeyCounts)
    dropped = {job.event for job in books.jobs.find(model=model, state="dropped", newest=True, limit=_MOST_DROPPED)}
    for event in books.events.find(kind="verdict", environment=environment, newest=True, limit=_MOST_DROPPED):
        if event.id in dropped and (value := find_requested_value(books, event.id, key)):
            counts.requested.pop(value, None)
    return counts
