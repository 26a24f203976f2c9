"""References of drift out of the live stream: its earlier windows, the last ones or those of the same season.

The rows of the earlier windows are put on one axis of time, window after window, so that their profile has a history:
how much one such window normally differs from the others.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl
from msgspec import Struct

from tidemill.core.resources import JournalReader
from tidemill.core.watch import NEEDED_WINDOWS, find_distance
from tidemill.data.relations import profile_reference
from tidemill.data.statistics import Profile
from tidemill.monitoring.windows import unpack_features

_RECENT = 16
_RECENT_WITH_YEAR = 8
_YEAR = timedelta(weeks=52)  # the same day of the week
_AROUND = 4
_NEEDED_OF_YEAR = 5
_LEAST_ROWS = 20
_MOST_ROWS = 20_000  # of a window: later ones tell little more

_SERVED = "known_at of the journal"

LiveKind = Literal["rolling", "seasonal"]


class Span(Struct, frozen=True):
    """The inputs that were served in a window after `begin`, with their times."""

    begin: datetime
    rows: pl.DataFrame


class EarlierWindows(Struct, frozen=True, kw_only=True):
    """Earlier windows of the live stream that have rows, and how many of them are of an earlier year.

    They are compared with the window of the same length that ends at `end`.

    `profile` is None while there are fewer windows than are needed.
    """

    kind: LiveKind
    end: datetime
    length: timedelta
    spans: list[Span]
    of_year: int
    profile: Profile | None

    @property
    def windows(self) -> int:
        """The number of windows."""
        return len(self.spans)

    def describe_newest(self, length: timedelta) -> Profile | None:
        """Return the profile of the last part of each window; None if too few windows have rows in it."""
        begin = self.length - length
        spans = [
            Span(span.begin + begin, span.rows.filter(pl.col(_SERVED) > span.begin + begin)) for span in self.spans
        ]
        spans = [span for span in spans if span.rows.height >= _LEAST_ROWS]
        return _describe(spans, length) if len(spans) >= NEEDED_WINDOWS else None

    @property
    def text(self) -> str:
        """What a window is compared with, for the reason of a verdict."""
        if self.profile is None:
            return (
                f'compared with the training rows: `reference = "{self.kind}"` needs {NEEDED_WINDOWS} earlier windows '
                f"in the journal, which has {self.windows}"
            )
        if self.kind == "rolling":
            return f"compared with the {self.windows} windows before"
        year = f", {self.of_year} of them at this time of the year" if self.of_year else ""
        return f"compared with {self.windows} earlier windows of the same hours of the week{year}"

    @property
    def evidence(self) -> dict[str, Any]:
        """What a window is compared with, for the evidence of a verdict."""
        rows = sum(span.rows.height for span in self.spans)
        counts = {"windows": self.windows, "of_year": self.of_year, "rows": rows, "needed": NEEDED_WINDOWS}
        return {"asked": self.kind, "reference": "release" if self.profile is None else self.kind, **counts}


def read_earlier_windows(
    journal: JournalReader, model: str, kind: LiveKind, length: timedelta, now: datetime, columns: Sequence[str]
) -> EarlierWindows:
    """Return the windows before the window of a length that ends now, with the profile of their inputs.

    A `rolling` reference has the 16 windows directly before. A `seasonal` one has the windows of the same hours of the
    week in 16 earlier weeks, or, where the journal goes back a year, in the last 8 weeks and in the weeks around this
    one of the year before. Windows longer than a week have distances of whole weeks.
    """

    def read(begins: Sequence[datetime]) -> list[Span]:
        spans = [Span(begin, _read_rows(journal, model, begin, begin + length, columns)) for begin in sorted(begins)]
        return [span for span in spans if span.rows.height >= _LEAST_ROWS]

    start = now - length
    step = find_distance(kind, length)
    of_year: list[Span] = []
    if kind == "seasonal":
        around = [start - _YEAR + number * step for number in range(-_AROUND, _AROUND + 1)]
        of_year = read([begin for begin in around if begin + length <= start - _RECENT_WITH_YEAR * step])
    if len(of_year) < _NEEDED_OF_YEAR:
        of_year = []
    count = _RECENT_WITH_YEAR if of_year else _RECENT
    spans = [*of_year, *read([start - number * step for number in range(1, count + 1)])]
    described = _describe(spans, length) if len(spans) >= NEEDED_WINDOWS else None
    return EarlierWindows(kind=kind, end=now, length=length, spans=spans, of_year=len(of_year), profile=described)


def _read_rows(
    journal: JournalReader, model: str, since: datetime, until: datetime, columns: Sequence[str]
) -> pl.DataFrame:
    """Return the inputs that were served in (since, until], and `known_at`; of many rows a part."""
    served = journal.read(f"predictions/{model}", since, until)
    if served.is_empty():
        return served
    served = served.filter(pl.col("role") != "shadow")
    served = served.gather_every(max(1, -(-served.height // _MOST_ROWS)))
    features = unpack_features(served)
    return features.select(name for name in columns if name in features.columns).with_columns(
        served["known_at"].alias(_SERVED)
    )


def _describe(spans: Sequence[Span], length: timedelta) -> Profile:
    """Return the profile of the windows on one axis of time, each directly after the one before."""
    parts = [
        span.rows.with_columns(pl.col(_SERVED) - span.begin + (spans[0].begin + number * length))
        for number, span in enumerate(spans)
    ]
    rows = pl.concat(parts, how="diagonal_relaxed")
    return profile_reference(rows.drop(_SERVED), rows[_SERVED])
