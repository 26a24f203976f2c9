"""Parameters with the types in which a file states them; and their form in the ledger, as JSON.

JSON has no dates and times, and no numbers that are infinite or not a number: these are stored as records with one key,
such as `{"$date": "2026-01-31"}`. A record whose only key looks like this is stored as `{"$record": …}`.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from math import isfinite
from typing import Any

from msgspec import Struct

_READERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$float": float,
    "$record": lambda value: {name: _from_stored(member) for name, member in value.items()},
}


class Stated(Struct, frozen=True):
    """A parameter that keeps the type in which it was stated: a text is not read as a value of another type."""

    value: Any


def store_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON data that keeps their types.

    >>> from datetime import date
    >>> store_params({"since": date(2026, 1, 31), "rate": float("inf"), "names": ["a", ""]})
    {'since': {'$date': '2026-01-31'}, 'rate': {'$float': 'inf'}, 'names': ['a', '']}
    """
    return {name: _to_stored(value) for name, value in params.items()}


def read_params(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored parameters in the types in which they were stated, for a run.

    >>> read_params(store_params({"rate": float("inf")}))
    {'rate': Stated(value=inf)}
    """
    return {name: Stated(_from_stored(value)) for name, value in stored.items()}


def _to_stored(value: Any) -> Any:
    match value:
        case datetime():
            return {"$datetime": value.isoformat()}
        case date():
            return {"$date": value.isoformat()}
        case time():
            return {"$time": value.isoformat()}
        case float() if not isfinite(value):
            return {"$float": str(value)}
        case list() | tuple():
            return [_to_stored(member) for member in value]
        case dict():
            members = {name: _to_stored(member) for name, member in value.items()}
            return {"$record": members} if len(value) == 1 and next(iter(value)) in _READERS else members
    return value


def _from_stored(value: Any) -> Any:
    match value:
        case list():
            return [_from_stored(member) for member in value]
        case dict():
            name, member = next(iter(value.items()), ("", None))
            if len(value) == 1 and name in _READERS:
                return _READERS[name](member)
            return {name: _from_stored(member) for name, member in value.items()}
    return value
