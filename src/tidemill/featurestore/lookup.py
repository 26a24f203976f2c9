"""Looks up what a request does not bring: the features of its entities, as the online store has them."""

from datetime import datetime

import polars as pl

from tidemill.clock import span
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.featurestore.online import SqliteOnline


def entity_of(frame: pl.DataFrame, keys: tuple[str, ...]) -> list[str]:
    """The name of each row's entity: its keys as text, joined by `|`; a null key gives an empty name."""
    if not keys:
        return [""] * frame.height
    parts = [pl.col(key).cast(pl.String) for key in keys]
    return frame.select(pl.concat_str(parts, separator="|").fill_null("").alias("entity"))["entity"].to_list()


class Lookup:
    """Fills the columns of views that rows do not bring themselves."""

    def __init__(self, online: SqliteOnline) -> None:
        self._online = online

    def fill(self, features: FeatureSet, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """The rows with the columns of all views: null where an entity is unknown or its row too old.

        A view whose columns the rows bring is left as it came; one whose keys they lack is all null.
        """
        for view in features.views:
            if not set(view.features) <= set(frame.columns):
                frame = self._fill_view(view, frame, now)
        return frame

    def _fill_view(self, view: FeatureView, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        missing = [name for name in view.features if name not in frame.columns]
        if not set(view.entity.keys) <= set(frame.columns):
            return frame.with_columns(pl.lit(None).alias(name) for name in missing)
        found = self._online.read(view.name, entity_of(frame, view.entity.keys))
        oldest = now - span(view.ttl) if view.ttl else None
        rows = [row[1] if row and (oldest is None or row[0] >= oldest) else {} for row in found]
        return frame.with_columns(pl.Series(name, [row.get(name) for row in rows], strict=False) for name in missing)
