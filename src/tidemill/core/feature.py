"""FeatureView: columns of an entity at a time, defined once, the same for training and serving."""

from typing import Literal

from msgspec import Struct

from tidemill.clock import Span


class Entity(Struct, frozen=True):
    """Something that has features: an airport, a customer. `keys` are the columns that name it."""

    name: str
    keys: tuple[str, ...]


class Aggregate(Struct, frozen=True, kw_only=True):
    """`statistic` of `column` over the rows that became known in the `window` before the moment asked for."""

    name: str
    column: str
    statistic: Literal["mean", "sum", "count"]
    window: Span


class FeatureView(Struct, frozen=True, kw_only=True):
    """Features of an entity, from one source.

    Either `columns` are taken as they were in the latest row that was known (not older than `ttl`), or
    `aggregates` are computed over what became known, refreshed once per `every`: serving and training
    then see the same values.
    """

    name: str
    entity: Entity
    source: str
    columns: tuple[str, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    ttl: Span | None = None
    every: Span = "1h"
    owner: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns that the view gives."""
        return tuple(f"{self.name}_{column}" for column in (*self.columns, *(a.name for a in self.aggregates)))


class FeatureSet(Struct, frozen=True, kw_only=True):
    """What one model uses: columns that come with the request, and views that are looked up."""

    request: tuple[str, ...]
    views: tuple[FeatureView, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.request + tuple(name for view in self.views for name in view.features)
