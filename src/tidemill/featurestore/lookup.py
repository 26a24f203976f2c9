"""Look up the features of a request's entities in the online store."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.core.resources import Online
from tidemill.data.keys import to_row_keys

# Beside the features of a view, the online store keeps when the values of its columns happened (µs since 1970). A name
# of a feature cannot collide: it begins with the name of its view and `_`.
HAPPENED = "happened"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def name_entities(frame: pl.DataFrame, keys: tuple[str, ...]) -> list[str | None]:
    """Return the name of each row's entity: its keys as text, as `to_row_keys` joins them; None without a key."""
    return to_row_keys(frame, keys).to_list() if keys else [""] * frame.height


class Lookup:
    """Fills the columns of views that rows do not contain."""

    def __init__(self, online: Online) -> None:
        self._online = online

    def fill(self, features: FeatureSet, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Return the rows with the columns of all views: null if an entity is unknown or its values are too old.

        If the rows contain all columns of a view, these stay unchanged; without a view's keys, its columns are null.
        """
        for view in features.views:
            if not set(view.features) <= set(frame.columns):
                frame = self._fill_view(view, frame, now)
        return frame

    def _fill_view(self, view: FeatureView, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        missing = [name for name in view.features if name not in frame.columns]
        if not set(view.entity.keys) <= set(frame.columns):
            return frame.with_columns(pl.lit(None).alias(name) for name in missing)
        entities = name_entities(frame, view.entity.keys)
        requested = [entity for entity in dict.fromkeys(entities) if entity is not None]
        stored = dict(zip(requested, self._online.read(view.name, requested), strict=True))
        latest = [stored[entity] if entity is not None else None for entity in entities]
        # The count of an unknown entity is 0, as in training.
        unknown = {
            f"{view.name}_{aggregate.name}": 0.0 for aggregate in view.aggregates if aggregate.statistic == "count"
        }
        rows = [_drop_expired(view, *row, now) if row else unknown for row in latest]
        return frame.with_columns(pl.Series(name, [row.get(name) for row in rows], strict=False) for name in missing)


def _drop_expired(view: FeatureView, written: datetime, values: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the stored values without those of `columns`, if these are older than the `ttl` of the view.

    The age counts from when the values happened. A row of an earlier version of Tidemill has only the time of writing.
    """
    if view.ttl is None:
        return values
    micros = values.get(HAPPENED)
    happened = written if micros is None else _EPOCH + timedelta(microseconds=micros)
    if now - happened <= parse_duration(view.ttl):
        return values
    columns = {f"{view.name}_{column}" for column in view.columns}
    return {name: value for name, value in values.items() if name not in columns}
