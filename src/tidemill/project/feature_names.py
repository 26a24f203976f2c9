"""Checks that each feature of a model has a name of its own: two values of one name would replace each other."""

from collections.abc import Iterator, Sequence

from tidemill.core.columns import PATH, PREFIX, is_internal
from tidemill.core.feature import FeatureView
from tidemill.core.policy import ModelPolicy
from tidemill.core.source import Source
from tidemill.errors import ConfigurationError


def require_distinct_names(model: ModelPolicy, views: Sequence[FeatureView], source: Source | None) -> None:
    """Raise unless every feature of a model's views has a name that nothing else in its rows has.

    Raises
    ------
    ConfigurationError
        if two features have one name, or a feature has the name of the label, an input of the request, a key, or a
        column that Tidemill adds.
    """
    owners = dict(_list_other_columns(model, views, source))
    for view in views:
        for feature in view.features:
            if is_internal(feature):
                raise ConfigurationError(
                    f"view {view.name!r} has a feature {feature!r}; {PATH!r} and names that begin with {PREFIX!r} are "
                    "reserved",
                    "rename the view in features.py",
                )
            owner = owners.setdefault(feature, f"a feature of view {view.name!r}")
            if owner != f"a feature of view {view.name!r}" or view.features.count(feature) > 1:
                raise ConfigurationError(
                    f"view {view.name!r} of model {model.name!r} has a feature {feature!r}, which is also {owner}",
                    "rename the view in features.py, or its column: a feature is called VIEW_COLUMN",
                )


def _list_other_columns(
    model: ModelPolicy, views: Sequence[FeatureView], source: Source | None
) -> Iterator[tuple[str, str]]:
    """Yield the other columns of a model's rows, each with its role."""
    for name in model.inputs.request:
        yield name, "an input of the request"
    for view in views:
        for key in view.entity.keys:
            yield key, f"a key of view {view.name!r}"
    if source is not None:
        yield from ((key, "a key of the source") for key in source.key)
        yield source.time or "", "the event time of the source"
    yield model.problem.label, "the label"
