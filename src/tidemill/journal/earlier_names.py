"""The names that earlier versions gave to the columns which Tidemill adds to the rows of a table."""

from collections.abc import Iterable

_EARLIER = ("_time", "_known_at", "_batch", "_arrived")
_PREFIX = "_tidemill"


def find_earlier_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the earlier names among the columns of a table, each with its name now; empty for a table of this version.

    >>> find_earlier_names(["x", "_time", "_batch"]), find_earlier_names(["x", "_time", "_tidemill_batch"])
    ({'_time': '_tidemill_time', '_batch': '_tidemill_batch'}, {})
    """
    present = set(columns)
    if "_batch" not in present or f"{_PREFIX}_batch" in present:
        return {}
    return {name: f"{_PREFIX}{name}" for name in _EARLIER if name in present}
