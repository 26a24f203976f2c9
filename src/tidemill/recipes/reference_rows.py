"""The reference rows of a model: its newest labelled rows, and the rows that its views need."""

from datetime import datetime, timedelta

import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.columns import KNOWN_AT, TIME, is_internal
from tidemill.core.feature import FeatureView
from tidemill.core.policy import Problem

MARGIN = timedelta(days=1)
_WHOLE_SOURCE = 20_000


def choose_rows(history: pl.DataFrame, problem: Problem, rows: int, *, timed: bool) -> pl.DataFrame:
    """Return the newest labelled rows of a source, or a seeded choice if they have no time."""
    labelled = history.filter(pl.col(problem.label).is_not_null())
    if timed:
        return labelled.sort(TIME, maintain_order=True).tail(rows)
    return labelled.sample(min(rows, labelled.height), seed=0, shuffle=False)


def find_end(chosen: pl.DataFrame, problem: Problem) -> datetime:
    """Return the time at which all of these rows and their labels are known."""
    known = [chosen[name].max() for name in (TIME, KNOWN_AT, problem.label_known_at) if name in chosen.columns]
    return max(time for time in known if isinstance(time, datetime)) + MARGIN


def select_needed(
    history: pl.DataFrame, views: list[FeatureView], start: datetime, until: datetime, *, timed: bool
) -> pl.DataFrame:
    """Return the rows of a view's source that features between two times can need."""
    known = history.filter(pl.col(KNOWN_AT) <= until)
    if not timed or known.height <= _WHOLE_SOURCE:
        return known
    windows = [parse_duration(aggregate.window) for view in views for aggregate in view.aggregates]
    windows += [parse_duration(view.ttl) for view in views if view.ttl and view.columns]
    recent = known.filter(pl.col(KNOWN_AT) >= start - max(windows, default=MARGIN) - MARGIN)
    if any(view.columns and not view.ttl for view in views):
        keys = sorted({key for view in views for key in view.entity.keys})
        older = known.filter(pl.col(KNOWN_AT) < start).sort(KNOWN_AT).unique(keys, keep="last", maintain_order=True)
        recent = pl.concat([older, recent]).unique(maintain_order=True)
    return recent


def drop_internal(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows without the columns that Tidemill added."""
    return frame.select(name for name in frame.columns if not is_internal(name))
