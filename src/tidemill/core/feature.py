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


class RowTransformation(Struct, frozen=True, kw_only=True):
    """A function that computes columns of a row from other columns of the same row.

    Attributes
    ----------
    name
        The name of the function.
    inputs
        The columns that it reads.
    outputs
        The columns that it computes.
    takes_frame
        Whether the function gets one frame with its inputs, instead of one series for each.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    takes_frame: bool = False


class FeatureSet(Struct, frozen=True, kw_only=True):
    """The inputs of one model.

    Attributes
    ----------
    request
        Inputs of the model that come with the request.
    views
        Feature views that Tidemill looks up.
    transformations
        Functions that compute inputs from the columns of the request and of the views, in their order.
    exclude
        Computed columns that are no inputs of the model.
    code
        The source of the transformations, by its path in a package; a package contains it as files.
    """

    request: tuple[str, ...]
    views: tuple[FeatureView, ...] = ()
    transformations: tuple[RowTransformation, ...] = ()
    exclude: tuple[str, ...] = ()
    code: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all inputs of the model, in order."""
        computed = (name for transformation in self.transformations for name in transformation.outputs)
        names = dict.fromkeys((*self.request, *self._looked_up, *computed))
        return tuple(name for name in names if name not in self.exclude)

    @property
    def raw_names(self) -> tuple[str, ...]:
        """Return the names of the columns before any transformation: those of the request, then those of the views."""
        computed = {name for transformation in self.transformations for name in transformation.outputs}
        names = dict.fromkeys(name for name in self.request if name not in computed)
        known = set(self._looked_up)
        for transformation in self.transformations:
            names |= dict.fromkeys(name for name in transformation.inputs if name not in known)
            known |= set(transformation.outputs)
        return tuple(name for name in names if name not in self._looked_up) + self._looked_up

    @property
    def _looked_up(self) -> tuple[str, ...]:
        return tuple(name for view in self.views for name in view.features)
