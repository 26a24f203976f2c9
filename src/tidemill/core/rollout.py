"""The settings of a rollout: how a release becomes the champion."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tidemill.clock import DurationText


class Rollout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rollout of a release into production.

    Attributes
    ----------
    approval
        Require `tidemill models approve` before a release gets requests.
    canary
        Start with a canary. Otherwise a release becomes the champion at once.
    share
        The share of the requests that the challenger serves.
    refresh_share
        The share at the start of a refresh: a release that passed the gate, and differs from the champion only in the
        rows that it has learned. Both releases then predict all rows. It falls to `share` as soon as the challenger's
        live loss, after `shortest` and on at least `minimum` labels, is not lower. By default it is `share`.
    mode
        With `non-inferiority`, a challenger is promoted when it is proven to be worse by at most `margin`; with
        `superiority`, when it is proven to be better.
    margin
        How much worse than the champion the challenger may be: in log loss, or in squared error for a regression.
    confidence
        The probability that a bound of the difference holds at all looks of a canary: at most `1 - confidence` of the
        challengers that are worse by `margin` are promoted.
    minimum
        The number of labels that decides the canary: labels of rows that both releases predicted.
    block
        The time that a disturbance lasts, such as a bad day. Only rows of complete blocks decide: of at least three
        blocks if the rows are independent of each other; of seven if they are not, if they arrive in batches, or
        within the first three days. Before seven, only a lower loss promotes. It is at most an eighth of `maximum`. The
        age of a canary is counted in blocks, to the nearest.
    shortest
        The shortest canary; before, only harm stops it.
    maximum
        The duration of a canary without an extension.
    extension
        How much longer an undecided canary may run while labels still arrive. With `undecided = "better"` it ends
        sooner, as soon as `minimum` labels are known, if a newer release waits.
    undecided
        The release that serves after a canary that was undecided at its end: the `champion`, the `challenger`, or the
        `better` one. With `better`, a challenger with a lower live loss is promoted at `maximum`, or at the end of the
        extension, if a bound for this one look is below `margin`; else the champion serves.
    extended_share
        With `better` and an extension, the share of the requests that a challenger with a lower live loss serves after
        `shortest`: it grows from `share` to this, and back if its live loss is no longer lower.
    failures
        The largest share of rows that a release may fail to answer. A challenger that fails on more stops at once;
        about a champion there is an alert.
    distance
        The largest distance (Kolmogorov-Smirnov, 0 to 1) of the challenger's predictions from the champion's on the
        same rows. A challenger beyond it stops, unless there are labels, which show more.
    slower
        How many times the champion's time for a row the challenger may take, if that is more than 100 ms.
    latency_ms
        The largest time for a row, which 95 % of the challenger's rows keep.
    during_canary
        What happens to a release that passes the gate while a canary of another release runs: with `wait` the canary
        continues, and the new release starts its own canary afterwards; with `replace` it replaces the canary.
    """

    approval: bool = False
    canary: bool = True
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    refresh_share: Annotated[float, Meta(gt=0, lt=1)] | None = None
    mode: Literal["non-inferiority", "superiority"] = "non-inferiority"
    margin: float = 0.0
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    minimum: Annotated[int, Meta(ge=1)] = 100
    block: DurationText = "1d"
    shortest: DurationText = "1d"
    maximum: DurationText = "14d"
    extension: DurationText = "28d"
    undecided: Literal["champion", "challenger", "better"] = "champion"
    extended_share: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    failures: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    distance: Annotated[float, Meta(gt=0, le=1)] = 0.8
    slower: Annotated[float, Meta(gt=1)] = 10.0
    latency_ms: Annotated[float, Meta(gt=0)] | None = None
    during_canary: Literal["wait", "replace"] = "wait"

    @property
    def decides_later(self) -> bool:
        """Return whether a release is judged again before it is the champion: by live traffic, or by a person."""
        return self.canary or self.approval
