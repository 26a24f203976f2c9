"""Finds records by words, by tag and by metric: the ledger's index answers, however many there are."""

import re
from typing import Any, TypeVar

from msgspec import Struct

from tidemill.core.metric_filter import MetricFilter
from tidemill.core.resources import BookReader
from tidemill.errors import InputError

T = TypeVar("T", bound=Struct)
_FILTER = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|<|>|=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")


def search(
    book: BookReader[T],
    *,
    text: str = "",
    tag: str = "",
    metric: str = "",
    limit: int | None = None,
    before: str = "",
    **equals: Any,
) -> list[T]:
    """The newest records that have these words, the tag (`name=value`) and the metric (`test_log_loss<0.5`).

    Raises
    ------
    InputError
        if the tag or the metric is not written so.
    """
    return book.find(
        newest=True,
        limit=limit,
        before=before,
        text=text,
        tag=tag_of(tag) if tag else "",
        metric=metric_filter(metric) if metric else None,
        **equals,
    )


def tag_of(expression: str) -> str:
    """A tag as the ledger knows it; raises `InputError` where it has no name or no value.

    >>> tag_of("team = blue")
    'team=blue'
    """
    name, sign, value = (part.strip() for part in expression.partition("="))
    if not name or not sign:
        raise InputError(f"{expression!r} is no tag", "write it as team=blue")
    return f"{name}={value}"


def metric_filter(expression: str) -> MetricFilter:
    """A metric compared with a number.

    >>> metric_filter("test_log_loss<0.5")
    MetricFilter(name='test_log_loss', sign='<', value=0.5)

    Raises
    ------
    InputError
        if it compares no metric with a number.
    """
    parts = _FILTER.fullmatch(expression)
    try:
        return MetricFilter(parts[1], parts[2], float(parts[3]))  # type: ignore[index]  # no match is told below
    except (TypeError, ValueError):
        raise InputError(f"{expression!r} compares no metric", "write it as test_log_loss<0.5") from None
