"""Explores a table before a training: the columns to exclude, and the preparation of each other column."""

import numpy as np
import polars as pl
from msgspec import Struct

from tidemill.checks.leaks import measure_dependence
from tidemill.core.columns import is_internal
from tidemill.data.statistics import ColumnProfile, Profile, profile
from tidemill.project.guessing import explain_identifier

_SAMPLE_ROWS = 20_000
_MOST_DEPENDENCE = 0.9
_MOST_MISSING = 0.95
_MOST_AFTER_EVENT = 0.5
_FEW = 20
_LONG_TEXT = 40.0


class ColumnProposal(Struct, frozen=True, kw_only=True):
    """A proposal for a column: exclude it, or prepare it in some way, with the reason.

    `telling` is the dependence of the label on the column, from 0 to 1; `role` is "input", "label", "event time" or
    "key".
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
    """Return the profile of a table, and a proposal for each column.

    It proposes to exclude constants, identifiers, columns that are missing in nearly all rows, columns that become
    known after the event, and leaks: columns that predict the label almost alone (Chatterjee's coefficient above .9,
    on at most 20,000 rows).
    """
    names = [name for name in frame.columns if not is_internal(name)]
    table = profile(frame.select(names))
    sample = frame.sample(_SAMPLE_ROWS, seed=0) if frame.height > _SAMPLE_ROWS else frame
    roles = dict.fromkeys(key, "key") | {time: "event time", label: "label"}
    proposals = []
    for column in table.columns:
        values = sample[column.name]
        role = roles.get(column.name, "input")
        dependence = _measure_dependence(values, sample[label]) if label in names and role == "input" else None
        reason = _explain_exclusion(column, values, frame, sample, dependence, time, later) if role == "input" else ""
        proposals.append(
            ColumnProposal(
                column=column.name,
                exclude=bool(reason),
                preparation="" if reason or role != "input" else _describe_preparation(column, values),
                reason=reason,
                role=role,
                telling=dependence,
            )
        )
    return table, proposals


def _explain_exclusion(
    column: ColumnProfile,
    values: pl.Series,
    frame: pl.DataFrame,
    sample: pl.DataFrame,
    dependence: float | None,
    time: str,
    later: tuple[str, ...],
) -> str:
    """Return the reason to exclude a column; empty if there is none."""
    missing = column.missing / max(column.rows, 1)
    if values.dtype.is_nested():
        return "it contains lists or records: extract columns from them first"
    if column.name in later:
        return "it becomes known later: it is in `later`"
    distinct = column.distinct or 0
    if distinct <= 1:
        return "it has only one value" if distinct else "it is null in every row"
    if missing > _MOST_MISSING:
        return f"it is missing in {missing:.0%} of the rows"
    if dependence is not None and dependence > _MOST_DEPENDENCE:
        return f"it predicts the label almost alone ({dependence:.2f}): is it known at prediction time?"
    if reason := explain_identifier(frame[column.name]):
        return reason
    if column.type == "time" and time in sample.columns and column.name != time:
        after = _share_after(values, sample[time])
        if after > _MOST_AFTER_EVENT:
            return f"it is after the event time in {after:.0%} of the rows: is it known at prediction time?"
    return ""


def _share_after(values: pl.Series, event: pl.Series) -> float:
    """Return the share of the rows whose time is after the event; 0 for times in text."""
    if not (values.dtype.is_temporal() and event.dtype.is_temporal()):
        return 0.0
    share = (values.cast(pl.Datetime("us")) > event.cast(pl.Datetime("us"))).mean()
    return float(share) if isinstance(share, float) else 0.0


def _measure_dependence(values: pl.Series, label: pl.Series) -> float | None:
    """Return the dependence of the label on a column, from 0 to 1; None if too few rows have a label."""
    both = pl.DataFrame([values.alias("x"), label.alias("y")]).drop_nulls("y")
    if both.height < _FEW or values.dtype.is_nested() or both["y"].n_unique() < 2:
        return None
    shuffled = both.sample(fraction=1, shuffle=True, seed=0)
    return float(np.clip(measure_dependence(shuffled["x"], shuffled["y"]), 0.0, 1.0))


def _describe_preparation(column: ColumnProfile, values: pl.Series) -> str:
    """Describe how to convert a column to numbers, and what to do about missing values."""
    gaps, distinct = "", column.distinct or 0
    if column.missing > 0:
        gaps = f"; {column.missing / column.rows:.1%} missing: trees accept gaps, linear models need imputed values"
    if column.type == "text":
        if (column.length or 0.0) > _LONG_TEXT:
            return f"texts of {column.length:.0f} characters: embed them, or count words{gaps}"
        rare = " (combine rare categories)" if distinct > 100 else ""
        return f"categories: a vocabulary of {distinct:,}{rare}{gaps}"
    if column.type in ("time", "date"):
        parts = "year, month, day of the year, weekday" + ", hour" * (column.type == "time")
        return f"the parts that vary of: {parts}, elapsed time{gaps}"
    if column.type == "boolean":
        return f"unchanged{gaps}"
    if column.type == "integer" and distinct <= _FEW:
        return f"unchanged, or categories if the order has no meaning ({distinct} values){gaps}"
    numbers = values.cast(pl.Float64, strict=False).drop_nulls()
    skewness = numbers.skew() if len(numbers) > _FEW else 0.0
    if skewness is not None and abs(skewness) > 2 and column.low is not None and column.low >= 0:
        return f"unchanged; for linear models the logarithm (skewness {skewness:.1f}){gaps}"
    return f"unchanged; for linear models scaled{gaps}"
