"""FeatureView: columns of an entity at a time, defined once, the same for training and serving."""

from typing import Literal

from msgspec import Struct

from tidemill.clock import DurationText


class Entity(Struct, frozen=True):
    """A thing that has features, such as an airport or a customer.

    Attributes
    ----------
    name
        The name.
    keys
        The columns that identify it.
    """

    name: str
    keys: tuple[str, ...]


class Aggregate(Struct, frozen=True, kw_only=True):
    """A statistic of a column over the rows that became known in a window of time.

    Attributes
    ----------
    name
        The name of the feature, after the name of the view.
    column
        The column.
    statistic
        The statistic.
    window
        The length of the window before the requested time, such as `"7d"`.
    """

    name: str
    column: str
    statistic: Literal["mean", "sum", "count"]
    window: DurationText


class FeatureView(Struct, frozen=True, kw_only=True):
    """Features of an entity from one source, the same for training and serving.

    Attributes
    ----------
    name
        The name; the features are called `name_column`.
    entity
        The entity.
    source
        The source in `tidemill.toml`.
    columns
        Columns whose latest known value is a feature.
    aggregates
        Statistics over a window of time.
    ttl
        The maximum age of a value of `columns`; an older value is missing.
    every
        How often `aggregates` are computed. Training uses values of the same age as serving.
    owner
        Who is responsible.
    description
        A description.
    tags
        Tags.
    """

    name: str
    entity: Entity
    source: str
    columns: tuple[str, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    ttl: DurationText | None = None
    every: DurationText = "1h"
    owner: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Return the names of the view's features, which are columns of the training rows."""
        return tuple(f"{self.name}_{column}" for column in (*self.columns, *(a.name for a in self.aggregates)))


class FeatureSet(Struct, frozen=True, kw_only=True):
    """The inputs of one model.

    Attributes
    ----------
    request
        Columns that come with the request.
    views
        Feature views that Tidemill looks up.
    """

    request: tuple[str, ...]
    views: tuple[FeatureView, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all inputs, in order."""
        return self.request + tuple(name for view in self.views for name in view.features)
