"""Numbers and moments as people read them."""

from datetime import UTC, datetime

from tidemill.core.metric import info_of


def when(moment: datetime | None) -> str:
    """A moment to the minute, in UTC.

    >>> when(datetime(2013, 3, 1, 11, tzinfo=UTC))
    '2013-03-01 11:00'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if moment else ""


def day(moment: datetime) -> str:
    """The day of a moment, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def number(value: float | None) -> str:
    """A whole number with its thousands apart, another to four places, or to three digits where it is tiny or huge.

    >>> number(57239), number(0.5504020), number(0.0000123)
    ('57,239', '0.5504', '1.23e-05')
    """
    if value is None:
        return ""
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15 if abs(value) < float("inf") else False):
        return f"{int(value):,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """A length of time.

    >>> seconds(0.0412), seconds(13.57), seconds(312), seconds(179.9)
    ('41 ms', '13.6 s', '5 min 12 s', '3 min 0 s')
    """
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    minutes, left = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 120 else f"{minutes:,} min {left} s"


def spoken(metric: str) -> str:
    """The name of a metric in a sentence.

    >>> spoken("roc_auc"), spoken("log_loss")
    ('ROC AUC', 'log loss')
    """
    return info_of(metric).words


def plural(count: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "training"), plural(44, "training")
    ('1 training', '44 trainings')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
