"""Training–serving skew: the served values of a feature compared with the values of the offline join."""

from collections.abc import Sequence

import polars as pl
from msgspec import Struct

_PRECISION = 1e-6


class Skew(Struct, frozen=True, kw_only=True):
    """How many of a feature's served values differ from its joined values, and an example of a difference."""

    feature: str
    rows: int
    differ: int
    served: str = ""
    joined: str = ""
    key: str = ""

    @property
    def share(self) -> float:
        return self.differ / max(self.rows, 1)


def compute_skews(served: pl.DataFrame, joined: pl.DataFrame, names: Sequence[str], keys: pl.Series) -> list[Skew]:
    """Return the skew of each feature, the largest first.

    Two numbers are equal if their relative difference is at most 1e-6; two nulls are equal.
    """
    skews = [_compute_skew(name, served[name], joined[name], keys) for name in names if name in served.columns]
    return sorted(skews, key=lambda skew: -skew.share)


def _compute_skew(name: str, served: pl.Series, joined: pl.Series, keys: pl.Series) -> Skew:
    numbers = all(values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null) for values in (served, joined))
    kind = pl.Float64 if numbers else pl.String
    pairs = pl.DataFrame([served.cast(kind).alias("served"), joined.cast(kind).alias("joined")])
    pairs = pairs.fill_nan(None) if numbers else pairs
    is_different = pl.col("served").ne_missing(pl.col("joined"))
    if numbers:
        is_near = (pl.col("served") - pl.col("joined")).abs() <= _PRECISION * (1 + pl.col("joined").abs())
        is_different &= is_near.fill_null(value=False).not_()
    differing = pairs.select(is_different)["served"]
    count = int(differing.sum())
    if not count:
        return Skew(feature=name, rows=len(served), differ=0)
    index = int(differing.arg_max() or 0)
    return Skew(
        feature=name,
        rows=len(served),
        differ=count,
        served=str(served[index]),
        joined=str(joined[index]),
        key=str(keys[index]),
    )
