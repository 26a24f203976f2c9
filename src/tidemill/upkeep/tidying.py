"""Maintenance of the journal: merge small segments, and delete rows older than the retention of the policy."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from tidemill.clock import parse_duration
from tidemill.core.policy import Retention
from tidemill.core.resources import Journal

if TYPE_CHECKING:
    import polars as pl


def tidy(journal: Journal, retention: Retention, now: datetime, *, dry_run: bool = False) -> dict[str, int]:
    """Merge small segments and delete expired rows; return the number of deleted rows of each kind."""
    dropped = {}
    for kind in journal.kinds():
        if retention.journal is not None:
            before = now - parse_duration(retention.journal)
            dropped[kind] = journal.erase(kind, _known_before(before), until=before, dry_run=dry_run)
        if not dry_run:
            journal.tidy(kind)
    return {kind: count for kind, count in dropped.items() if count}


def _known_before(moment: datetime) -> "Callable[[pl.DataFrame], pl.Series]":
    return lambda rows: rows["known_at"] < moment
