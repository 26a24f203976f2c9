"""Guesses the roles of the columns of a table: task of the label, event time, key, inputs."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
from msgspec import Struct

from tidemill.core.columns import require_usable_names
from tidemill.core.model import PredictionTask
from tidemill.errors import DataError, InputError

_FEW = 20
_OWN = 0.9
_ENOUGH = 200
_KEY_LIKE = re.compile(r"(^|_)(id|key|uuid|number|no)$|id$", re.IGNORECASE)
_LAST_WORD = re.compile(r"(?:^|[^A-Za-z]|(?<=[a-z])(?=[A-Z]))([A-Za-z][a-z]*|[A-Z]+)$")
_NO_KEYS = (  # words that end in "id"
    *("paid", "prepaid", "unpaid", "repaid", "overpaid", "underpaid", "bid", "overbid", "underbid", "valid", "invalid"),
    *("acid", "lipid", "steroid", "thyroid", "covid", "fluid", "liquid", "solid", "humid", "rapid", "rigid", "hybrid"),
    *("grid", "void", "avoid"),
)


class TableGuess(Struct, frozen=True, kw_only=True):
    """The probable roles of the columns of a table; `excluded` has the reason for each excluded column.

    `spread` is the standard deviation of a regression's label, `newest` the latest event time, and `rows_per_day` the
    mean number of rows per day (0 without an event time) and `rows` their number. `positive` is the positive class, if
    there are two. `spellings` are other spellings of classes, each with the one that is used. `in_future` are columns
    of times that are no event times, because some are in the future.
    """

    label: str
    task: PredictionTask
    time: str | None
    key: tuple[str, ...]
    inputs: tuple[str, ...]
    excluded: dict[str, str]
    spread: float
    newest: datetime | None = None
    rows_per_day: float = 0.0
    rows: int = 0
    positive: str = ""
    spellings: dict[str, str] = {}
    in_future: tuple[str, ...] = ()


def guess_columns(
    frame: pl.DataFrame,
    label: str,
    *,
    time: str = "",
    key: str = "",
    task: str = "",
    exclude: tuple[str, ...] = (),
    in_future: Mapping[str, pl.Series] | None = None,
) -> TableGuess:
    """Guess the roles of the columns of a table; a column with times `in_future` is no event time.

    Raises
    ------
    InputError
        if a named column does not exist, the event time has no times or future ones, or the label of a regression no
        numbers.
    DataError
        if the label is of one class only, or a column is null in every row.
    """
    require_usable_names(frame.columns, "the table")
    for name in (label, *filter(None, (time, key)), *exclude):
        if name not in frame.columns:
            raise InputError(f"the table has no column {name!r}", f"its columns are: {', '.join(frame.columns)}")
    if time and not (_is_time(frame.schema[time]) or frame.schema[time] == pl.String):
        raise InputError(
            f"column {time!r} has the type {frame.schema[time]}, which is not a time",
            "choose the column of the event time",
        )
    kind = _find_task(frame[label], task)
    types = frame.schema
    with_label = _find_known_with_label(frame, label)
    times = [time] if time else [c for c in types if _is_time(types[c]) and c not in (label, *with_label)]
    future = {c: late for c, late in (in_future or {}).items() if c in times}
    if time and time in future:
        raise _explain_future(future[time])
    when = _find_event_time(frame, [c for c in times if c not in future], given=bool(time))
    found_key = key or next((c for c in frame.columns if _is_key(frame[c]) and c not in (label, when)), "")
    excluded = dict.fromkeys(exclude, "excluded by --exclude")
    for name in frame.columns:
        if name in (label, when or None, found_key or None) or name in excluded:  # a name may be empty
            continue
        if types[name].is_nested() or types[name] == pl.Binary:
            what = "bytes" if types[name] == pl.Binary else "lists or records"
            excluded[name] = f"it contains {what}: compute columns from them"
            continue
        if name in with_label:
            excluded[name] = "it has values exactly where the label has: it becomes known later"
        elif frame[name].null_count() == frame.height:
            excluded[name] = "it is null in every row"
        elif frame[name].n_unique() == 1:
            excluded[name] = "it has only one value"
        elif reason := explain_identifier(frame[name]):
            excluded[name] = reason
    inputs = tuple(c for c in frame.columns if c not in (label, found_key or None) and c not in excluded)
    if not [name for name in inputs if name != (when or None)]:
        raise DataError("no column remains as an input", "use a table with more columns than the label")
    first, newest = _find_range(frame[when]) if when else (None, None)
    days = (newest - first) / timedelta(days=1) if first and newest else 0.0
    spread = _compute_spread(frame[label]) if kind == "regression" else 0.0
    return TableGuess(
        label=label,
        task=kind,
        time=when or None,
        key=(found_key,) if found_key else (),
        inputs=inputs,
        excluded=excluded,
        spread=spread,
        newest=newest,
        rows_per_day=frame.height / max(days, 1.0) if newest else 0.0,
        rows=frame.height,
        in_future=tuple(future),
    )


def _find_known_with_label(frame: pl.DataFrame, label: str) -> list[str]:
    """Return the columns with nulls in exactly the rows without a label; none if most are such, as in blank rows."""
    unlabelled = frame[label].is_null()
    if unlabelled.sum() < _FEW:
        return []
    others = [values for values in frame if values.name != label]
    found = [values.name for values in others if (values.is_null() == unlabelled).all()]
    return found if 2 * len(found) <= len(others) else []


def _explain_future(late: pl.Series) -> InputError:
    return InputError(
        f"column {late.name!r} has {len(late):,} times in the future, such as {late[0]}: they are no times of events",
        "choose another column with --time, or correct them; if they mean that the time is missing, add --null with "
        "their text in the file",
    )


def _is_time(kind: pl.DataType) -> bool:
    return kind == pl.Date or isinstance(kind, pl.Datetime)


def _find_range(times: pl.Series) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last time of a column, or None for text that is not a time."""
    try:
        first, last = (datetime.fromisoformat(str(time)) for time in (times.min(), times.max()))
    except ValueError:
        return None, None
    return _add_zone(first), _add_zone(last)


def _add_zone(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _compute_spread(label: pl.Series) -> float:
    numbers = label.cast(pl.Float64)
    spread = numbers.filter(numbers.is_finite()).std()
    return spread if isinstance(spread, float) else 0.0


def find_known_labels(label: pl.Series) -> pl.Series:
    """Return the labels that a training uses: a row whose label is null or NaN has no label."""
    known = label.drop_nulls()
    return known.drop_nans() if known.dtype.is_float() else known


def _find_task(label: pl.Series, task: str) -> PredictionTask:
    known = find_known_labels(label)
    if known.is_empty():
        raise DataError(f"label {label.name!r} is null in every row", "add rows with a label")
    distinct = known.n_unique()
    if distinct == 1:
        raise DataError(f"label {label.name!r} has only one class: {known[0]!r}", "add rows of another class")
    if task == "regression" and not label.dtype.is_numeric():
        raise InputError(
            f"label {label.name!r} has the type {label.dtype}, which is not a number", "use another task or label"
        )
    if task:
        return "regression" if task == "regression" else "classification"
    if not label.dtype.is_numeric():
        return "classification"
    whole = label.dtype.is_integer() or bool((known == known.round()).all())
    return "classification" if whole and distinct <= _FEW else "regression"


def _find_event_time(frame: pl.DataFrame, times: list[str], *, given: bool) -> str:
    """Return the first column of times with few nulls, else that with fewest: rows without a time are not used."""
    nulls = {name: frame[name].null_count() for name in times}
    known = times if given else [name for name in times if nulls[name] < frame.height]
    usual = (name for name in known if nulls[name] <= (1 - _OWN) * frame.height)
    return next(usual, "") or min(known, key=lambda name: nulls[name], default="")


def explain_identifier(values: pl.Series) -> str:
    """Return why a column identifies its rows, as a key does, or an empty text if it does not."""
    if _is_key(values):
        return "by its name and its unique values, it is a key"
    distinct = values.n_unique()
    if values.dtype == pl.String and distinct > _OWN * len(values) and len(values) > _FEW:
        return "nearly every row has a different value"
    if values.dtype.is_integer() and distinct == len(values) >= _FEW:
        least, most = values.min(), values.max()
        # A counter, as in a database: unique numbers with few gaps, or with none in a small table.
        width = 2 * len(values) if len(values) >= _ENOUGH else len(values)
        if isinstance(least, int) and isinstance(most, int) and most - least < width:
            return "it numbers the rows"
    return ""


def _is_key(values: pl.Series) -> bool:
    is_identifier = values.dtype.is_integer() or values.dtype == pl.String
    word = _LAST_WORD.search(values.name)
    is_named = bool(_KEY_LIKE.search(values.name)) and not (word and word[1].lower() in _NO_KEYS)
    return is_identifier and is_named and values.n_unique() == len(values)
