"""Windows of the newest rows, each with its own earlier windows of the same hours of the week."""

from datetime import timedelta
from functools import cached_property

import polars as pl

from tidemill.checks.drift import Window
from tidemill.data.relations import profile_joint
from tidemill.data.statistics import Profile, profile
from tidemill.monitoring.earlier_windows import EarlierWindows
from tidemill.monitoring.windows import list_sizes, unpack_features


class MatchedWindows:
    """The window of all rows, and those of the newest rows, from `newest` to half of all, doubling.

    A window of the newest rows is compared with the last part of each earlier window, not with the rows before it: at
    other hours of the week rows are others.
    """

    def __init__(self, rows: pl.DataFrame, earlier: EarlierWindows, reference: Profile, newest: int) -> None:
        self._rows = rows.sort("known_at", "time")
        self._features = unpack_features(self._rows)
        self._earlier = earlier
        self._reference = reference
        self._newest = newest

    @cached_property
    def _parts(self) -> list[tuple[int, timedelta, Profile]]:
        """The size, the length and the reference of each window; without those that have too few earlier rows."""
        end = self._earlier.end
        parts = [(self._rows.height, self._earlier.length, self._reference)]
        for size in list_sizes(self._rows.height, self._newest):
            length = min(end - self._rows["known_at"][-size], self._earlier.length)
            described = self._earlier.describe_newest(length) if length > timedelta(0) else None
            if described is not None:
                parts.append((size, length, described))
        return parts

    def build(self) -> list[Window]:
        """Return the windows, that of all rows first."""
        return [
            Window(now=profile(self._features.tail(size), own), seconds=length.total_seconds(), reference=own)
            for size, length, own in self._parts
        ]

    def build_relations(self) -> list[Window]:
        """Return the windows with the profiles of how their rows fit the relations of their earlier windows."""
        windows = []
        for size, length, own in self._parts:
            for now in profile_joint(self._features.tail(size), (0, size), own):
                windows.append(Window(now=now, seconds=length.total_seconds(), reference=own.joint))
        return windows
