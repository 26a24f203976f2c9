"""Materialization: writes the values of each entity, as of now, to the online store."""

from datetime import datetime

import polars as pl

from tidemill.core.feature import FeatureView
from tidemill.core.resources import Online, Sources
from tidemill.data.frame import TIME
from tidemill.features.join import join
from tidemill.featurestore.lookup import entity_of


def materialize(view: FeatureView, sources: Sources, online: Online, now: datetime) -> int:
    """Write what is known of every entity of a view now; the number of entities written."""
    history = sources.history(view, now)
    if history.is_empty():
        return 0
    keys = list(view.entity.keys)
    entities = history.select(keys).drop_nulls().unique(maintain_order=True) if keys else pl.DataFrame({"_all": [0]})
    asked = entities.with_columns(pl.lit(now).cast(pl.Datetime("us", "UTC")).alias(TIME))
    rows = join(asked, view, history)
    values = rows.select(view.features).to_dicts()
    named = zip(entity_of(rows, view.entity.keys), values, strict=True)
    online.write(view.name, ((entity, now, row) for entity, row in named if entity is not None))
    return len(values)
