"""The offline store: point-in-time joins for training and backtests."""

from datetime import datetime
from typing import ClassVar

import polars as pl

from tidemill.core.feature import FeatureSet
from tidemill.core.resources import Sources
from tidemill.features.join import join


class OfflineFeatures:
    """Joins the histories of the project's sources, with the values that were known at a row's event time."""

    writable: ClassVar[bool] = False

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def join(self, rows: pl.DataFrame, features: FeatureSet, until: datetime) -> pl.DataFrame:
        """Return the rows with the columns of all views, from the histories known by `until`."""
        for view in features.views:
            rows = join(rows, view, self._sources.history(view, until))
        return rows
