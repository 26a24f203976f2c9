"""Finds records by words, tag and metric, with the search index of the ledger."""

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
    """Return the newest records with these words, this tag (`name=value`) and this metric (`test_log_loss<0.5`).

    Raises
    ------
    InputError
        if the tag or the metric does not have this form.
    """
    return book.find(
        newest=True,
        limit=limit,
        before=before,
        text=text,
        tag=parse_tag(tag) if tag else "",
        metric=parse_metric_filter(metric) if metric else None,
        **equals,
    )


def parse_tag(expression: str) -> str:
    """Parse a tag; raise `InputError` if it has no name or no `=`.

    >>> parse_tag("team = blue")
    'team=blue'
    """
    name, sign, value = (part.strip() for part in expression.partition("="))
    if not name or not sign:
        raise InputError(f"{expression!r} is not a tag", "write it as NAME=VALUE, such as team=blue")
    return f"{name}={value}"


def parse_metric_filter(expression: str) -> MetricFilter:
    """Parse the comparison of a metric with a number.

    >>> parse_metric_filter("test_log_loss<0.5")
    MetricFilter(name='test_log_loss', sign='<', value=0.5)

    Raises
    ------
    InputError
        if the text is no such comparison.
    """
    parts = _FILTER.fullmatch(expression)
    try:
        return MetricFilter(parts[1], parts[2], float(parts[3]))  # type: ignore[index]  # no match raises TypeError
    except (TypeError, ValueError):
        raise InputError(
            f"{expression!r} is not a comparison of a metric", "write it as METRIC<NUMBER, such as test_log_loss<0.5"
        ) from None
