"""Watch: the checks of a model in production, `[watch]` of `tidemill.toml`."""

from datetime import timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tidemill.clock import DurationText, parse_duration
from tidemill.core.check import Action

# So many of so many evaluations, at most nine.
Repetition = Annotated[
    str,
    Meta(pattern=r"^([1-9] of 9|[1-8] of 8|[1-7] of 7|[1-6] of 6|[1-5] of 5|[1-4] of 4|[1-3] of 3|[12] of 2|1 of 1)$"),
]

DetectorName = Literal["adwin", "page_hinkley"]
DETECTORS: tuple[DetectorName, ...] = ("adwin", "page_hinkley")
"""The detectors of changes in the loss."""
OTHER_VALUES = ("drift", *DETECTORS, "learning", "age", "growth", "silence")
"""The values of a watch that are no metrics."""

NEEDED_WINDOWS = 8
"""The least number of earlier live windows that a `rolling` or `seasonal` reference needs."""
_WEEK = timedelta(weeks=1)


class WatchValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value to check in production.

    Attributes
    ----------
    value
        A metric that was measured at release (see [metrics](checks-and-metrics.md#metrics)), or `drift`, `adwin`,
        `page_hinkley`, `learning`, `age`, `growth` or `silence`.
    limit
        For a metric, how much worse than at release or on its live labels, beyond chance. For `drift`, the share of
        columns that changed; fewer are reported by the action `experiment`. For `age`, days since the newest training
        row; for `growth`, that time in whole days, as a share of the time that the training rows cover: a model that
        has learned few rows learns most from new ones (undecided with `[training] window`, which does not grow). For
        `silence`, days without predictions. For `learning`, days until answers use a label. For the detectors `adwin`
        and `page_hinkley`, the increase of the mean loss.
    action
        What the verdict calls for beyond the limit.
    window
        How far back the check looks.
    minimum
        The least number of labels or rows; with fewer, the check is undecided.
    false_alarm_interval
        For `drift`, the time in which a false alarm has a probability of at most 5 %, if nothing changes.
    reference
        For `drift`, what a window is compared with: the training rows of the `release`, the live windows directly
        before (`rolling`), or earlier live windows of the same hours of the week, and of the same time of the year if
        the journal goes back a year (`seasonal`). With too few earlier windows it is the release.
    repetition
        How many of the last evaluations must be beyond the limit, such as `2 of 3`: one evaluation alone then does
        nothing. The default is `1 of 1`.
    notify
        Addresses to notify instead of those of `[watch]`.
    """

    value: str
    limit: Annotated[float, Meta(ge=0)]
    action: Action
    window: DurationText = "7d"
    minimum: Annotated[int, Meta(ge=1)] = 200
    false_alarm_interval: DurationText = "26w"
    reference: Literal["release", "rolling", "seasonal"] = "release"
    repetition: Repetition = "1 of 1"
    notify: tuple[str, ...] = ()

    @property
    def reach(self) -> timedelta:
        """How far back the check must be able to read the journal."""
        window = parse_duration(self.window)
        if self.reference == "release":
            return window
        return window + NEEDED_WINDOWS * find_distance(self.reference, window)


def find_distance(reference: Literal["rolling", "seasonal"], window: timedelta) -> timedelta:
    """Return the time between two earlier windows: `seasonal` ones have a distance of whole weeks.

    >>> find_distance("seasonal", timedelta(days=8)).days, find_distance("rolling", timedelta(days=8)).days
    (14, 8)
    """
    return window if reference == "rolling" else -(-window // _WEEK) * _WEEK


class Watch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The checks of the champion. A release without a watch gets no requests.

    Attributes
    ----------
    values
        The values to check.
    notify
        Addresses that Apprise supports, or `log`. `${NAME}` is replaced by a [secret](../howto/access.md#secrets).
    quiet
        The same notification is not repeated within this time.
    experiment_after
        After this number of retrainings in a row that did not help, the verdict is `experiment`: one event and one
        alert, because a person must look for another model.
    """

    values: tuple[WatchValue, ...] = ()
    notify: tuple[str, ...] = ()
    quiet: DurationText = "1d"
    experiment_after: Annotated[int, Meta(ge=1)] = 3
