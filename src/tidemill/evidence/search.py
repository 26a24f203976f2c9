"""Finds records by tag and by metric."""

import operator
import re
from collections.abc import Callable, Mapping

from tidemill.errors import InputError

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


def fits(tags: Mapping[str, str], metrics: Mapping[str, float], tag: str, metric: str) -> bool:
    """Whether a record has the tag (`name=value`) and its metric compares so (`test_log_loss<0.5`).

    >>> fits({"team": "blue"}, {"auc": 0.7}, "team=blue", "auc>=0.7")
    True
    """
    if tag:
        name, _, value = tag.partition("=")
        if tags.get(name) != value:
            return False
    if not metric:
        return True
    parts = re.fullmatch(r"\s*([\w.@-]+)\s*(<=|>=|<|>|=)\s*(-?[0-9.eE+-]+)\s*", metric)
    if parts is None:
        raise InputError(f"{metric!r} compares no metric", "write it as test_log_loss<0.5")
    found = metrics.get(parts[1])
    return found is not None and _COMPARISONS[parts[2]](found, float(parts[3]))
