"""The features of the project: one transformation, the same for training and serving."""

import polars as pl

from tidemill import transformation


@transformation
def speed(distance: pl.Series, scheduled_minutes: pl.Series) -> pl.Series:
    """The planned speed, in miles an hour."""
    return distance / scheduled_minutes.clip(1) * 60
