"""Training–serving skew: what was served of a feature against what the offline join gives the same rows."""

from collections.abc import Sequence

import polars as pl
from msgspec import Struct

_PRECISION = 1e-6


class Skew(Struct, frozen=True, kw_only=True):
    """A feature's values as they were served and as they are joined: how many of `rows` differ, and one that does."""

    feature: str
    rows: int
    differ: int
    served: str = ""
    joined: str = ""
    key: str = ""

    @property
    def share(self) -> float:
        return self.differ / max(self.rows, 1)


def skew(served: pl.DataFrame, joined: pl.DataFrame, names: Sequence[str], keys: pl.Series) -> list[Skew]:
    """The skew of each feature, the largest first; numbers that agree to six places are equal, and so are two nulls."""
    found = [_of(name, served[name], joined[name], keys) for name in names if name in served.columns]
    return sorted(found, key=lambda one: -one.share)


def _of(name: str, served: pl.Series, joined: pl.Series, keys: pl.Series) -> Skew:
    numbers = all(side.dtype.is_numeric() or side.dtype in (pl.Boolean, pl.Null) for side in (served, joined))
    kind = pl.Float64 if numbers else pl.String
    one, other = served.cast(kind).alias("one"), joined.cast(kind).alias("other")
    both = pl.DataFrame([one, other]).fill_nan(None) if numbers else pl.DataFrame([one, other])
    apart = pl.col("one").ne_missing(pl.col("other"))
    if numbers:
        near = (pl.col("one") - pl.col("other")).abs() <= _PRECISION * (1 + pl.col("other").abs())
        apart &= near.fill_null(value=False).not_()
    differ = both.select(apart)["one"]
    count = int(differ.sum())
    if not count:
        return Skew(feature=name, rows=len(served), differ=0)
    place = int(differ.arg_max() or 0)
    return Skew(
        feature=name,
        rows=len(served),
        differ=count,
        served=str(served[place]),
        joined=str(joined[place]),
        key=str(keys[place]),
    )
