"""References of a live metric: its value at release, on the release's first live rows, and on its recent windows.

The first live rows show what the released model can do: the model that was tested had learned fewer rows. The recent
windows show it where these first rows were unusually bad. Both are kept in the evidence of each verdict, so that the
next evaluation reads one verdict and no old predictions.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from msgspec import Struct, convert, to_builtins

from tidemill.core.check import Verdict
from tidemill.data.metrics import worse_by

_MOST_WINDOWS = 26
_LEAST_WINDOWS = 3
MEMORY = "live_windows"


class LiveWindow(Struct, frozen=True, kw_only=True):
    """A metric on one window: until when, its value, half the width of its interval, and its rows."""

    until: datetime
    value: float
    reach: float
    rows: int


class Reference(Struct, frozen=True, kw_only=True):
    """What a live metric is compared with: its value, half the width of its interval, and its name for people."""

    about: str
    value: float
    reach: float = 0.0


def read_windows(
    earlier: Sequence[Verdict], metric: str, length: timedelta
) -> tuple[datetime | None, list[LiveWindow]]:
    """Return when the first live rows were measured, and the windows that did not overlap, oldest first.

    They come from the newest verdict (`earlier` is newest first) on this metric with windows of this length.
    """
    for verdict in earlier:
        memory = verdict.evidence.get(MEMORY)
        if verdict.evidence.get("metric") == metric and memory and memory["seconds"] == length.total_seconds():
            return convert(memory["began"], datetime), convert(memory["windows"], list[LiveWindow])
    return None, []


def add_window(
    began: datetime | None, windows: list[LiveWindow], current: LiveWindow, length: timedelta
) -> tuple[datetime, list[LiveWindow]]:
    """Return the windows with the current one: it replaces the first one until a whole window is measured.

    Later ones are added when they overlap no earlier one; the first one and the 25 newest others are kept.
    """
    began = began or current.until
    if not windows or current.until < began + length:
        return began, [current, *windows[1:]]
    if current.until < windows[-1].until + length:
        return began, windows
    windows = [*windows, current]
    return began, windows if len(windows) <= _MOST_WINDOWS else [windows[0], *windows[2:]]


def to_memory(began: datetime, windows: list[LiveWindow], length: timedelta) -> dict[str, Any]:
    """Return the part of the evidence that the next evaluation reads."""
    memory: dict[str, Any] = to_builtins({"began": began, "windows": windows, "seconds": length.total_seconds()})
    return memory


def list_references(
    release: Reference, began: datetime | None, windows: list[LiveWindow], length: timedelta, now: datetime
) -> list[Reference]:
    """Return the references that exist: always the release, then the first live rows, and the recent windows.

    The first live rows count when a whole window of them has passed. Of the recent windows, their median counts if
    there are at least three: one bad week changes it little.
    """
    references = [release]
    if began is not None and windows and now >= began + length:
        first = windows[0]
        about = f"on its first {first.rows} live labels"
        references.append(Reference(about=about, value=first.value, reach=first.reach))
    if len(windows) >= _LEAST_WINDOWS:
        values, reaches = ([getattr(window, name) for window in windows] for name in ("value", "reach"))
        about = f"as the median of its {len(windows)} live windows"
        references.append(Reference(about=about, value=median(values), reach=median(reaches)))
    return references


def choose_reference(metric: str, value: float, references: Sequence[Reference], around: float) -> Reference:
    """Return the reference that a value is furthest beyond, counting the intervals of both."""

    def beyond(reference: Reference) -> float:
        return worse_by(metric, value, reference.value) - math.hypot(around, reference.reach)

    return max(references, key=beyond)
