"""Row times: when the next number of predictions or labels has arrived, for triggers with `rows`."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

from tidemill.core.policy import Policy
from tidemill.daemon.row_counts import RowCounts

_AFTER = timedelta(microseconds=1)


class RowTimes:
    """The times of a replay at which a trigger with `rows` fires; `times` are those of all rows by kind, sorted."""

    def __init__(self, policy: Policy, model: str, counts: RowCounts, times: Mapping[str, pl.Series]) -> None:
        self._triggers = [
            trigger for trigger in policy.triggers if trigger.rows is not None and trigger.model in ("", model)
        ]
        self._model, self._counts, self._times = model, counts, times

    def list_next(self) -> list[datetime]:
        """Return for each trigger the time just after the row that completes its next number of rows."""
        found = []
        for trigger in self._triggers:
            times = self._times[trigger.on]
            index = times.search_sorted(self._counts.find_counted(trigger, self._model), "right") + (trigger.rows or 1)
            if index <= len(times):
                found.append(times[int(index) - 1] + _AFTER)
        return found
