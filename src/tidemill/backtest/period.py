"""Which part of history a backtest replays."""

from datetime import datetime

from tidemill.backtest.comparison import Period
from tidemill.compose.backends import open_sources
from tidemill.data.frame import TIME
from tidemill.errors import InputError
from tidemill.project.project import Project


def part_of(project: Project, model: str, begin: str, end: str) -> Period:
    """The part of history between two dates (UTC); without them, the last two thirds of what there is.

    Raises
    ------
    InputError
        if a date is not one, or nothing is left between them.
    """
    policy = project.model(model)
    files = open_sources(project.folder, project.policy.sources)
    if not files.definition(policy.problem.source).time:
        raise InputError(
            f"source {policy.problem.source!r} has no time, so its history cannot be replayed",
            f'name the column of the event time: [sources.{policy.problem.source}] time = "…"',
        )
    times = files.source_history(policy.problem.source)[TIME]
    first, last = times.min(), times.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    midnight = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    chosen = Period(
        moment(begin, first) if begin else (first + (last - first) / 3).replace(**midnight),  # type: ignore[arg-type]
        moment(end, last) if end else last,
    )
    if chosen.end <= chosen.begin:
        raise InputError(
            f"the end, {chosen.end:%Y-%m-%d}, is not after the beginning, {chosen.begin:%Y-%m-%d}",
            f"name --from and --to in this order; the history goes from {first:%Y-%m-%d} to {last:%Y-%m-%d}",
        )
    if not first < chosen.begin < last:
        raise InputError(
            f"nothing to replay from {chosen.begin:%Y-%m-%d} to {chosen.end:%Y-%m-%d}",
            f"the history goes from {first:%Y-%m-%d} to {last:%Y-%m-%d}; leave some of it to train the first model on",
        )
    return chosen


def moment(text: str, like: datetime) -> datetime:
    """A date as people write it, in the zone of another moment where it names none; raises `InputError`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is not a date", "write it as 2013-03-01") from None
    return found if found.tzinfo else found.replace(tzinfo=like.tzinfo)
