"""Guesses what the columns of a table are: the label's task, the event time, the key, what is no input."""

import re
from datetime import UTC, datetime, timedelta

import polars as pl
from msgspec import Struct

from tidemill.core.model import Task
from tidemill.errors import DataError, InputError

_FEW = 20
_OWN = 0.9
_ENOUGH = 200
_KEY_LIKE = re.compile(r"(^|_)(id|key|uuid|number|no)$|id$", re.IGNORECASE)


class Guess(Struct, frozen=True, kw_only=True):
    """What a table's columns seem to be; `excluded` says why each is left out.

    `spread` is the standard deviation of a regression's label, `newest` the latest event time, and `a_day` how many
    rows come a day (0 where there is no event time). `positive` is the positive class of two, where it is set.
    """

    label: str
    task: Task
    time: str | None
    key: tuple[str, ...]
    inputs: tuple[str, ...]
    excluded: dict[str, str]
    spread: float
    newest: datetime | None = None
    a_day: float = 0.0
    positive: str = ""


def guess(
    frame: pl.DataFrame, label: str, *, time: str = "", key: str = "", task: str = "", exclude: tuple[str, ...] = ()
) -> Guess:
    """What the columns of a table seem to be.

    Raises
    ------
    InputError
        if a column that is named is not there, the event time holds no times, or the label of a regression no numbers.
    DataError
        if the label is of one class only, or a column is null in every row.
    """
    for name in (label, *filter(None, (time, key)), *exclude):
        if name not in frame.columns:
            raise InputError(f"the table has no column {name!r}", f"its columns: {', '.join(frame.columns)}")
    if time and not (_is_moment(frame.schema[time]) or frame.schema[time] == pl.String):
        raise InputError(f"column {time!r} holds {frame.schema[time]}, no times", "name the column of the event time")
    kind = _task_of(frame[label], task)
    empty = [c for c in frame.columns if frame[c].null_count() == frame.height and c not in exclude and c != label]
    if empty:
        raise DataError(f"column {empty[0]!r} is null in every row", f"leave it out: --exclude {empty[0]}")
    when = time or next((c for c in frame.columns if _is_moment(frame.schema[c]) and c != label), "")
    found_key = key or next((c for c in frame.columns if _is_key(frame[c]) and c not in (label, when)), "")
    excluded = dict.fromkeys(exclude, "as asked")
    for name in frame.columns:
        if name in (label, when, found_key) or name in excluded:
            continue
        if frame.schema[name].is_nested():
            excluded[name] = "it holds lists: make columns of what counts in them"
            continue
        if frame[name].n_unique() == 1:
            excluded[name] = "it has one value only"
        elif reason := why_identifier(frame[name]):
            excluded[name] = reason
    inputs = tuple(c for c in frame.columns if c not in (label, found_key) and c not in excluded)
    if not [name for name in inputs if name != when]:
        raise DataError("no column is left to learn from", "give a table with columns beside the label")
    first, newest = _ends(frame[when]) if when else (None, None)
    days = (newest - first) / timedelta(days=1) if first and newest else 0.0
    spread = _spread(frame[label]) if kind == "regression" else 0.0
    return Guess(
        label=label,
        task=kind,
        time=when or None,
        key=(found_key,) if found_key else (),
        inputs=inputs,
        excluded=excluded,
        spread=spread,
        newest=newest,
        a_day=frame.height / max(days, 1.0) if newest else 0.0,
    )


def _is_moment(kind: pl.DataType) -> bool:
    return kind == pl.Date or isinstance(kind, pl.Datetime)


def _ends(times: pl.Series) -> tuple[datetime | None, datetime | None]:
    """The first and the last of some times, where they are times."""
    try:
        first, last = (datetime.fromisoformat(str(one)) for one in (times.min(), times.max()))
    except ValueError:
        return None, None
    return _in_a_zone(first), _in_a_zone(last)


def _in_a_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _spread(label: pl.Series) -> float:
    numbers = label.cast(pl.Float64)
    spread = numbers.filter(numbers.is_finite()).std()
    return spread if isinstance(spread, float) else 0.0


def _task_of(label: pl.Series, task: str) -> Task:
    known = label.drop_nulls()
    if known.is_empty():
        raise DataError(f"label {label.name!r} is null in every row", "give rows whose label is known")
    distinct = known.n_unique()
    if distinct == 1:
        raise DataError(f"label {label.name!r} has one class only: {known[0]!r}", "give rows of at least two classes")
    if task == "regression" and not label.dtype.is_numeric():
        raise InputError(f"label {label.name!r} holds {label.dtype}, no numbers", "give another task, or another label")
    if task:
        return "regression" if task == "regression" else "classification"
    if not label.dtype.is_numeric():
        return "classification"
    whole = label.dtype.is_integer() or bool((known == known.round()).all())
    return "classification" if whole and distinct <= _FEW else "regression"


def why_identifier(values: pl.Series) -> str:
    """Why a column identifies its rows instead of describing them, as a key does; empty where it does not."""
    if _is_key(values):
        return "each row has its own, as its name says: a key"
    distinct = values.n_unique()
    if values.dtype == pl.String and distinct > _OWN * len(values) and len(values) > _FEW:
        return "nearly every row has a value of its own"
    if values.dtype.is_integer() and distinct == len(values) >= _FEW:
        least, most = values.min(), values.max()
        # A counter, such as a database has: each number once, with few gaps, or none in a small table.
        width = 2 * len(values) if len(values) >= _ENOUGH else len(values)
        if isinstance(least, int) and isinstance(most, int) and most - least < width:
            return "it numbers the rows"
    return ""


def _is_key(values: pl.Series) -> bool:
    is_identifier = values.dtype.is_integer() or values.dtype == pl.String
    return is_identifier and bool(_KEY_LIKE.search(values.name)) and values.n_unique() == len(values)
