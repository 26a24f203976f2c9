"""Formats times, metric names and counts for people."""

from datetime import UTC, datetime

from tidemill.core.metric import find_metric_info


def format_time(time: datetime | None) -> str:
    """Return a time to the minute, in UTC.

    >>> format_time(datetime(2013, 3, 1, 11, tzinfo=UTC))
    '2013-03-01 11:00'
    """
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if time else ""


def format_day(time: datetime) -> str:
    """Return the day of a time, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d")


def describe_metric(metric: str) -> str:
    """Return the name of a metric for a sentence.

    >>> describe_metric("roc_auc"), describe_metric("log_loss")
    ('ROC AUC', 'log loss')
    """
    return find_metric_info(metric).words


def pluralize(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> pluralize(1, "training"), pluralize(44, "training")
    ('1 training', '44 trainings')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
