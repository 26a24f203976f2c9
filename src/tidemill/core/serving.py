"""Serving: how the prediction service treats the requests for a model, and the limits of the model's processes."""

from typing import Annotated

from msgspec import Meta, Struct

from tidemill.clock import DurationText, parse_duration


class Serving(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the prediction service treats the rows of a request, and the limits of a model that it predicts with.

    The limits are those of a model that can run code of other people: any model except one of LightGBM that a Tidemill
    run trained and that has no transformations. Such a model predicts in processes of its own.

    Attributes
    ----------
    strict
        Refuse a request with an unknown column, without an input that was hardly ever null, or with a value outside the
        range or the domain of the schema that the model was trained under. Otherwise the reply has predictions and
        `warnings`. `tidemill init` writes `true`.
    timeout
        The most time of one prediction, for all rows of a request. A process that takes longer is ended, and the
        request gets 504.
    memory_mb
        The most memory of one process of the model. A process that uses more is ended, and the request gets 503.
    processes
        The most processes of the model at the same time. A second one starts when requests wait for the first.
    """

    strict: bool = False
    timeout: DurationText = "10s"
    memory_mb: Annotated[int, Meta(ge=256)] = 2048
    processes: Annotated[int, Meta(ge=1, le=64)] = 2

    @property
    def seconds(self) -> float:
        """Return the most time of one prediction, in seconds."""
        return parse_duration(self.timeout).total_seconds()


DEFAULT_SERVING = Serving()
