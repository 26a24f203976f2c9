"""Explores a table before a training: the columns to exclude, and the preparation of each other column."""

import numpy as np
import polars as pl
from msgspec import Struct

from tidemill.checks.leaks import measure_dependence as told
from tidemill.data.sketch import SKETCH_SIZE as EXACT
from tidemill.data.statistics import ColumnProfile, Profile, profile
from tidemill.project.guessing import explain_identifier

_LOOKED_AT = 20_000
_TELLING = 0.9
_EMPTY = 0.95
_LATER = 0.5
_FEW = 20
_WORDY = 40.0


class ColumnProposal(Struct, frozen=True, kw_only=True):
    """What to do with a column: leave it out, or how to prepare it, and why.

    `telling` is how much it says of the label, from 0 to 1; `role` is "input", or what else the column is: "label",
    "event time", "key".
    """

    column: str
    exclude: bool
    preparation: str
    reason: str
    role: str = "input"
    telling: float | None = None


def explore_table(
    frame: pl.DataFrame, label: str = "", *, time: str = "", key: tuple[str, ...] = (), later: tuple[str, ...] = ()
) -> tuple[Profile, list[ColumnProposal]]:
    """The profile of a table, and a proposal for each column.

    To leave out are constants, near-keys, columns that are nearly always missing, those that are known later than the
    event, and leaks: those that tell the label almost alone (Chatterjee's coefficient above .9, on at most 20,000
    rows).
    """
    names = [name for name in frame.columns if not name.startswith("_")]
    found = profile(frame.select(names))
    sample = frame.sample(_LOOKED_AT, seed=0) if frame.height > _LOOKED_AT else frame
    roles = dict.fromkeys(key, "key") | {time: "event time", label: "label"}
    proposals = []
    for column in found.columns:
        values = sample[column.name]
        role = roles.get(column.name, "input")
        telling = _telling(values, sample[label]) if label in names and role == "input" else None
        why = "" if role != "input" else _excluded(column, values, frame, sample, telling, time, later)
        proposals.append(
            ColumnProposal(
                column=column.name,
                exclude=bool(why),
                preparation="" if why or role != "input" else _preparation(column, values),
                reason=why,
                role=role,
                telling=telling,
            )
        )
    return found, proposals


def _excluded(
    column: ColumnProfile,
    values: pl.Series,
    frame: pl.DataFrame,
    sample: pl.DataFrame,
    telling: float | None,
    time: str,
    later: tuple[str, ...],
) -> str:
    """Return the reason to exclude a column; empty if there is none."""
    missing = column.missing / max(column.rows, 1)
    if values.dtype.is_nested():
        return "it contains lists or records: extract columns from them first"
    if column.name in later:
        return "it is only known later: it is in `later`"
    if column.distinct <= 1:
        return "it has one value only" if column.distinct else "it is null in every row"
    if missing > _EMPTY:
        return f"it is missing in {missing:.0%} of the rows"
    if telling is not None and telling > _TELLING:
        return f"it predicts the label almost alone ({telling:.2f}): is it known at prediction time?"
    if reason := explain_identifier(frame[column.name]):
        return reason
    if column.type == "time" and time in sample.columns and column.name != time:
        after = _share_after(values, sample[time])
        if after > _LATER:
            return f"it is after the event time in {after:.0%} of the rows: is it known by then?"
    return ""


def _share_after(values: pl.Series, event: pl.Series) -> float:
    """In what share of the rows a time lies after the event; text that names times is not looked into."""
    if not (values.dtype.is_temporal() and event.dtype.is_temporal()):
        return 0.0
    moment, happened = (one.cast(pl.Datetime("us")) for one in (values, event))
    share = (moment > happened).mean()
    return float(share) if isinstance(share, float) else 0.0


def _telling(values: pl.Series, label: pl.Series) -> float | None:
    """Return how much of the label is a function of a column; None if too few rows have both."""
    both = pl.DataFrame([values.alias("x"), label.alias("y")]).drop_nulls("y")
    if both.height < _FEW or values.dtype.is_nested() or both["y"].n_unique() < 2:
        return None
    shuffled = both.sample(fraction=1, shuffle=True, seed=0)
    return float(np.clip(told(shuffled["x"], shuffled["y"]), 0.0, 1.0))


def _preparation(column: ColumnProfile, values: pl.Series) -> str:
    """Return how to convert a column to numbers, and what to do about missing values."""
    gaps = f"; {column.missing / column.rows:.1%} missing: trees take that, linear models need a filling" * (
        column.missing > 0
    )
    if column.type == "text":
        if (column.length or 0.0) > _WORDY:
            return f"texts of {column.length:.0f} letters: embed them, or count words{gaps}"
        rare = " (rare ones become one)" if column.distinct > 100 else ""
        about = "about " if column.distinct >= EXACT else ""
        return f"categories: a vocabulary of {about}{column.distinct:,}{rare}{gaps}"
    if column.type in ("time", "date"):
        parts = "year, month, day of the year, weekday" + ", hour" * (column.type == "time")
        return f"its {parts} and the time elapsed, those that vary{gaps}"
    if column.type == "boolean":
        return f"as it is{gaps}"
    if column.type == "integer" and column.distinct <= _FEW:
        return f"as it is, or categories if its order means nothing ({column.distinct} values){gaps}"
    numbers = values.cast(pl.Float64, strict=False).drop_nulls()
    skewed = numbers.skew() if len(numbers) > _FEW else 0.0
    if skewed is not None and abs(skewed) > 2 and column.low is not None and column.low >= 0:
        return f"as it is; for linear models its logarithm (skewness {skewed:.1f}){gaps}"
    return f"as it is; for linear models scaled{gaps}"
