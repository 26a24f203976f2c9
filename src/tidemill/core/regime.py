"""Regimes: the settings of recall (auto deploy), `[regimes]` of `tidemill.toml`."""

from typing import Annotated

from msgspec import Meta, Struct

from tidemill.clock import DurationText


class Regimes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Auto deploy: an earlier release becomes the champion again if the regime that it knows returns.

    The pipeline `recalling` compares the newest rows with the releases that were champions before. With a `key`, the
    value of a column names the regime of each row: a release can be bound to a value, and serves its rows.

    Attributes
    ----------
    key
        The column that names the regime of each row, such as `vehicle`; an input or not. Then `rows`, `evidence`,
        `novel`, `features`, `refits` and `candidates` have no effect.
    rows
        The number of the newest labelled rows, and of the newest rows, that one run compares.
    evidence
        How much more likely the newest rows must be under a change than without one, before an earlier release is
        recalled by labels: the natural logarithm of the likelihood ratio.
    novel
        The same for a recall by the inputs alone, and for a new regime, which no earlier release fits.
    features
        Whether an earlier release can be recalled by the inputs alone, while labels are missing.
    minimum
        The number of labelled rows of a new regime, or of a value of the key, that requests a training; it is requested
        again each time that this number has doubled.
    refits
        How often the release of a new regime is trained again, each time that its labelled rows have doubled.
    candidates
        The most earlier releases that are compared.
    reach
        How far back the newest rows are searched.
    """

    key: str = ""
    rows: Annotated[int, Meta(ge=20)] = 200
    evidence: Annotated[float, Meta(ge=1)] = 7.0
    novel: Annotated[float, Meta(ge=1)] = 12.0
    features: bool = True
    minimum: Annotated[int, Meta(ge=1)] = 300
    refits: Annotated[int, Meta(ge=0)] = 2
    candidates: Annotated[int, Meta(ge=1)] = 32
    reach: DurationText = "90d"
