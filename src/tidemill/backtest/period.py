"""The period of history that a backtest replays."""

from datetime import datetime

from tidemill.backtest.comparison import Period
from tidemill.compose.session import open_history
from tidemill.data.frame import TIME
from tidemill.errors import InputError
from tidemill.project.project import Project


def choose_period(project: Project, model: str, begin: str, end: str) -> Period:
    """Return the period between two dates (UTC); without dates, the last two thirds of the history.

    Raises
    ------
    InputError
        if a text is not a date, or the period contains no history.
    """
    policy = project.model(model)
    sources = open_history(project)
    if not sources.definition(policy.problem.source).time:
        raise InputError(
            f"source {policy.problem.source!r} has no time, so its history cannot be replayed",
            f'set the column of the event time: [sources.{policy.problem.source}] time = "…"',
        )
    times = sources.source_history(policy.problem.source)[TIME]
    first, last = times.min(), times.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    midnight = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    chosen = Period(
        parse_time(begin, first) if begin else (first + (last - first) / 3).replace(**midnight),  # type: ignore[arg-type]
        parse_time(end, last) if end else last,
    )
    if chosen.end <= chosen.begin:
        raise InputError(
            f"the end, {chosen.end:%Y-%m-%d}, is not after the beginning, {chosen.begin:%Y-%m-%d}",
            f"choose --to after --from; the history is from {first:%Y-%m-%d} to {last:%Y-%m-%d}",
        )
    if not first < chosen.begin < last:
        raise InputError(
            f"the period from {chosen.begin:%Y-%m-%d} to {chosen.end:%Y-%m-%d} starts outside the history",
            f"choose --from between {first:%Y-%m-%d} and {last:%Y-%m-%d}, so that earlier rows train the first model",
        )
    return chosen


def parse_time(text: str, like: datetime) -> datetime:
    """Parse an ISO date or time, in the zone of `like` if it has none; raise `InputError` if it is neither."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is not a date", "write it as 2013-03-01 or 2013-03-01T12:00") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=like.tzinfo)
