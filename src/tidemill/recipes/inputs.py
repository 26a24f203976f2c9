"""Chooses the inputs of a model, and refuses columns that a request cannot have."""

import polars as pl
from msgspec.structs import replace

from tidemill.core.columns import ROW_ID, is_internal
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Sources, TableReader
from tidemill.core.source import Source
from tidemill.data.types import column_type
from tidemill.errors import ConfigurationError, DataError
from tidemill.models.transforming import check_row_wise, declare_raw_inputs
from tidemill.recipes.rows import Snapshot
from tidemill.training.evaluate import check_slice_columns

_CURE = (
    "compute it in features.py, in a function with the decorator @tidemill.transformation, which also runs at serving"
)


@step
def choose_inputs(
    rows: pl.DataFrame,
    policy: ModelPolicy,
    features: FeatureSet,
    sources: Sources,
    tables: TableReader,
    slices: tuple[str, ...] = (),
    snapshot: Snapshot | None = None,
) -> FeatureSet:
    """Return the model's inputs: the policy's list, or every column that is not a label, key, time or group.

    Of columns that only a transformation reads, the policy excludes those that are not inputs themselves.

    Raises
    ------
    DataError
        if a column of the gate's `slices` is missing, or no column remains.
    ConfigurationError
        if a step of the project added or changed an input, so that requests would have other values; if a
        transformation reads a column that a request cannot have, or is not row-wise.
    """
    check_slice_columns(rows, slices)
    source = sources.definition(policy.problem.source)
    _check_transformations(policy, features, source)
    chosen = features if features.request else replace(features, request=_list_inputs(rows, policy, features, source))
    if not chosen.names:
        raise DataError("no column remains to learn from", "list some under [inputs] request in tidemill.toml")
    if snapshot is not None and snapshot.columns:
        _require_given(rows, policy, chosen, snapshot, tables)
    if features.transformations:
        declare_raw_inputs(rows, chosen)
        check_row_wise(rows, chosen)
    return chosen


def _list_inputs(rows: pl.DataFrame, policy: ModelPolicy, features: FeatureSet, source: Source) -> tuple[str, ...]:
    excluded = {*source.key, *source.later, *policy.inputs.exclude, source.time, source.known_at}
    excluded |= {policy.problem.label, policy.problem.label_known_at, policy.training.group}
    views = {name for view in features.views for name in view.features}
    excluded |= views | {name for name, dtype in rows.schema.items() if column_type(dtype) in ("nested", "empty")}
    return tuple(name for name in rows.columns if name not in excluded and not is_internal(name))


def _check_transformations(policy: ModelPolicy, features: FeatureSet, source: Source) -> None:
    """Check the columns that transformations read and compute by the roles of the columns."""
    problem = policy.problem
    unknown = {problem.label, problem.label_known_at, *source.later} - {""}
    reserved = unknown | {*source.key, source.time or "", source.known_at or "", policy.training.group} - {""}
    for transformation in features.transformations:
        for name in transformation.inputs:
            if name in unknown:
                raise ConfigurationError(
                    f"transformation {transformation.name!r} reads the column {name!r}, which is not known at the time "
                    "of a prediction",
                    "read other columns, or list the transformations of this model under [inputs] in tidemill.toml",
                )
        for name in transformation.outputs:
            if name in reserved or is_internal(name):
                raise ConfigurationError(
                    f"transformation {transformation.name!r} computes the column {name!r}, which has another role "
                    "(label, key, time or group), or a name that Tidemill uses",
                    "give its column another name",
                )


def _require_given(
    rows: pl.DataFrame, policy: ModelPolicy, features: FeatureSet, snapshot: Snapshot, tables: TableReader
) -> None:
    """Check that each input comes from the source or a view, with its values."""
    views = {name for view in features.views for name in view.features}
    given = {column.name for column in snapshot.columns}
    raw = [name for name in features.raw_names if name not in views]
    schema = rows.schema
    if added := [name for name in raw if name not in given and name in schema]:
        raise ConfigurationError(
            f"the input {added[0]!r} comes from a step of pipeline.py: no source, view or transformation gives it, so "
            "that no request would have it",
            f'{_CURE}; or exclude it: [inputs] exclude = ["{added[0]}"] in tidemill.toml',
        )
    shared = [name for name in raw if name in schema and not schema[name].is_nested()]
    if ROW_ID in schema:
        shared.append(ROW_ID)
    if policy.training.feedback:  # rows from feedback are not in the table, and have no id
        rows = rows.filter(pl.col(ROW_ID).is_not_null()) if ROW_ID in shared else rows.clear()
    if changed := _find_changed(rows.select(shared), tables.read(snapshot.table, snapshot.version, shared)):
        raise ConfigurationError(
            f"a step of pipeline.py changed values of the input {changed!r}: requests would have the values of the "
            "source, and get other predictions",
            f"{_CURE}; a transformation can have the name of the column that it replaces",
        )


def _find_changed(rows: pl.DataFrame, table: pl.DataFrame) -> str:
    """Return a column whose values differ from those of each row of the table; empty if every row is in the table.

    If both have the ids of the rows, a row is compared with the row of its id, else with all rows.
    """
    schema = table.schema
    shared = [name for name in rows.columns if name in schema]
    if not shared or rows.is_empty():
        return ""
    table = table.select(shared)
    rows = rows.select(pl.col(name).cast(schema[name], strict=False) for name in shared)
    changed = rows.filter(~_hash(rows).is_in(_hash(table).unique().implode()))
    if changed.is_empty():
        return ""
    inputs = [name for name in shared if name != ROW_ID]
    for name in inputs:
        others = [other for other in shared if other != name]
        if others and _hash(changed.select(others)).is_in(_hash(table.select(others)).unique().implode()).all():
            return name
    new = (name for name in inputs if not changed[name].is_in(table[name].unique().implode(), nulls_equal=True).all())
    return next(new, inputs[0])


def _hash(rows: pl.DataFrame) -> pl.Series:
    return rows.hash_rows(seed=0)
