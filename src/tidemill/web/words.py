"""Moments, metrics and counts as people read them."""

from datetime import UTC, datetime

from tidemill.core.metric import find_metric_info


def when(moment: datetime | None) -> str:
    """A moment to the minute, in UTC.

    >>> when(datetime(2013, 3, 1, 11, tzinfo=UTC))
    '2013-03-01 11:00'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if moment else ""


def day(moment: datetime) -> str:
    """The day of a moment, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def spoken(metric: str) -> str:
    """The name of a metric in a sentence.

    >>> spoken("roc_auc"), spoken("log_loss")
    ('ROC AUC', 'log loss')
    """
    return find_metric_info(metric).words


def plural(count: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "training"), plural(44, "training")
    ('1 training', '44 trainings')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
