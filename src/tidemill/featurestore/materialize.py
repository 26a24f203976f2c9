"""Materialization: write the current values of each entity to the online store."""

from datetime import datetime

import polars as pl
from msgspec.structs import replace

from tidemill.core.columns import PREFIX, TIME
from tidemill.core.feature import FeatureView
from tidemill.core.resources import Online, Sources
from tidemill.data.timestamps import TIMESTAMP
from tidemill.features.join import join
from tidemill.featurestore.lookup import HAPPENED, name_entities


def materialize(view: FeatureView, sources: Sources, online: Online, now: datetime) -> int:
    """Write the current values of all entities of a view; return the number of entities.

    A view with a `ttl` also stores when the values happened, since their age counts from then.
    """
    history = sources.history(view, now)
    if history.is_empty():
        return 0
    keys = list(view.entity.keys)
    entities = (
        history.select(keys).drop_nulls().unique(maintain_order=True) if keys else pl.DataFrame({f"{PREFIX}all": [0]})
    )
    spine = entities.with_columns(pl.lit(now).cast(pl.Datetime("us", "UTC")).alias(TIME))
    if view.ttl and view.columns:
        dated = replace(view, columns=(*view.columns, TIME))
        rows = join(spine, dated, history)
        happened = pl.col(f"{view.name}_{TIME}").cast(TIMESTAMP).to_physical().alias(HAPPENED)
        values = rows.select(*view.features, happened).to_dicts()
    else:
        rows = join(spine, view, history)
        values = rows.select(view.features).to_dicts()
    entity_rows = zip(name_entities(rows, view.entity.keys), values, strict=True)
    online.write(view.name, ((entity, now, row) for entity, row in entity_rows if entity is not None))
    return len(values)
