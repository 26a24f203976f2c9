"""Looks up what a request does not bring: the features of its entities, as the online store has them."""

from datetime import datetime

import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.core.resources import Online
from tidemill.data.keys import to_key_text


def entity_of(frame: pl.DataFrame, keys: tuple[str, ...]) -> list[str | None]:
    """The name of each row's entity: its keys as text, joined by `|` (`\\|` inside a key); None where one is null."""
    if not keys:
        return [""] * frame.height
    parts = [to_key_text(frame[key]) for key in keys]
    if len(keys) > 1:
        parts = [
            part.str.replace_all("\\", r"\\", literal=True).str.replace_all("|", r"\|", literal=True) for part in parts
        ]
    return pl.select(pl.concat_str(parts, separator="|").alias("entity"))["entity"].to_list()


class Lookup:
    """Fills the columns of views that rows do not bring themselves."""

    def __init__(self, online: Online) -> None:
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
        entities = entity_of(frame, view.entity.keys)
        asked = [entity for entity in dict.fromkeys(entities) if entity is not None]
        found = dict(zip(asked, self._online.read(view.name, asked), strict=True))
        oldest = now - parse_duration(view.ttl) if view.ttl else None
        latest = [found[entity] if entity is not None else None for entity in entities]
        # Of an entity that nobody has seen nothing is known, and its count is 0, as in training.
        unknown = {f"{view.name}_{one.name}": 0.0 for one in view.aggregates if one.statistic == "count"}
        rows = [row[1] if row and (oldest is None or row[0] >= oldest) else unknown for row in latest]
        return frame.with_columns(pl.Series(name, [row.get(name) for row in rows], strict=False) for name in missing)
