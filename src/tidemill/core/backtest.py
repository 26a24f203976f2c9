"""Backtest: the settings of a replay of the history, `[backtest]` of `tidemill.toml`."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tidemill.clock import DurationText


class Planted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that replaces a delivery of a backtest. The output of the backtest lists it.

    Attributes
    ----------
    source
        The source.
    day
        The day of the delivery.
    path
        The file.
    repaired
        How much later the correct delivery comes.
    about
        A description for the output.
    """

    source: str
    day: str
    path: str
    repaired: DurationText | None = None
    about: str = ""


class Firing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pipeline that a person starts during a backtest.

    Attributes
    ----------
    at
        When.
    pipeline
        The pipeline.
    about
        A description for the output.
    params
        Its parameters.
    """

    at: str
    pipeline: str
    about: str = ""
    params: dict[str, Any] = {}


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule of the literature that requests trainings in a backtest, once a day (see `--against`).

    Attributes
    ----------
    name
        `regret`, the loss above that at release, or `cara`, the loss; each since the training of the champion.
    limit
        The least sum of it that requests a training, in predictions that are as wrong as those without a model.
    """

    name: Literal["regret", "cara"]
    limit: Annotated[float, Meta(ge=0)]


class Backtest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a replay of the history.

    Attributes
    ----------
    training_delay
        The time from the start of a training until its model exists.
    seed
        The random seed of ids and of the order of requests.
    shuffle
        Give each row the time of another row: a history in which nothing changes.
    skip
        Pipelines that the replay does not run.
    planted
        Files that replace deliveries.
    firings
        Pipelines that a person starts.
    rule
        A rule that requests trainings besides the triggers.
    """

    training_delay: DurationText = "1h"
    seed: int = 0
    shuffle: bool = False
    skip: tuple[str, ...] = ()
    planted: tuple[Planted, ...] = ()
    firings: tuple[Firing, ...] = ()
    rule: Rule | None = None
