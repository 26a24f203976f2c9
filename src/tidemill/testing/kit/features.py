"""Tests of feature logic: transformations for any rows, and equal features in training and serving."""

from datetime import datetime
from unittest import SkipTest

import numpy as np
import polars as pl
from msgspec.structs import replace

from tidemill.core.columns import ROW_ID, TIME
from tidemill.core.feature import FeatureSet
from tidemill.errors import TidemillError
from tidemill.featurestore.lookup import Lookup
from tidemill.featurestore.materialize import materialize
from tidemill.featurestore.online import SqliteOnline
from tidemill.featurestore.skew import compute_skews
from tidemill.models.transforming import check_row_wise, transform
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.rows import draw_rows, list_edges
from tidemill.testing.kit.sample import Sample
from tidemill.testing.kit.training import Call, SampleTraining

__tracebackhide__ = True
_TIMES = 4
_CURE_OF_ZERO = (
    "handle this value in features.py, for example with "
    "pl.when(divisor != 0).then(amount / divisor), which is null otherwise"
)


def require_row_wise(sample: Sample, rows: int = 200, seed: int = 0) -> None:
    """Require that transformations compute a value for each random row, from the columns of that row alone."""
    if not sample.features.transformations:
        return
    drawn = draw_rows(sample.joined, sample.features.raw_names, rows, seed)
    computed = _transform(drawn, sample.features)
    if computed.height != rows:
        fail(f"the transformations return {computed.height} values for {rows} rows", "return one value for each row")
    try:
        check_row_wise(drawn, sample.features)
    except TidemillError as error:
        fail(error.problem, error.cure)


def require_finite_features(sample: Sample) -> None:
    """Require that transformations and views return no NaN or infinity for zero, tiny, huge or missing values."""
    for view in sample.features.views:
        for name in view.features:
            _require_finite_view(sample, name)
    if not sample.features.transformations:
        return
    edges, about = list_edges(sample.joined, sample.features.raw_names)
    computed = _transform(edges, sample.features)
    for transformation in sample.features.transformations:
        for name in transformation.outputs:
            for value, edge in zip(computed[name].to_list(), about, strict=True):
                if isinstance(value, float) and not np.isfinite(value) and edge.column in _list_inputs(sample, name):
                    fail(
                        f"transformation {transformation.name!r} returns {value} in {name!r} for {edge}", _CURE_OF_ZERO
                    )


def _require_finite_view(sample: Sample, name: str) -> None:
    values = sample.joined[name]
    if values.dtype.is_float() and (bad := int((~values.is_finite()).sum())):
        fail(
            f"feature {name!r} of a view is NaN or infinite in {bad} of {len(values)} rows",
            "correct the values in its source, or set finite = true for the column in its schema",
        )


def _list_inputs(sample: Sample, output: str) -> set[str]:
    """Return the raw columns on which the column of a transformation depends."""
    needed = {output}
    for transformation in reversed(sample.features.transformations):
        if needed & set(transformation.outputs):
            needed |= set(transformation.inputs)
    return needed


def _transform(rows: pl.DataFrame, features: FeatureSet) -> pl.DataFrame:
    try:
        return transform(rows, features)
    except TidemillError as error:
        fail(error.problem, error.cure)


def require_offline_online(training: SampleTraining) -> None:
    """Require that a training has the features that the service would have for the same entity and time.

    The features of views are looked up in an online store that is materialized at the time of some rows. The columns
    of a request must have the values of the source.
    """
    sample = training.sample
    views = tuple(name for view in sample.features.views for name in view.features)
    frames = list(training.list_frames(*views, sample.label)) if views else []
    if views and not frames and training.run.state != "done":
        raise SkipTest(f"the training failed before it joined features: {training.run.error}")
    if views and not frames:
        fail(
            f"no step of pipeline {training.run.pipeline!r} returned rows with the features {', '.join(views[:3])}",
            "join them with join_features(rows, features, snapshot)",
        )
    for step, frame in [("the offline join", sample.joined), *_select_distinct(frames)] if views else []:
        for time in _choose_times(frame[TIME]):
            online = _materialize(training, time)
            _require_equal_lookup(sample, frame.filter(pl.col(TIME) == time), views, online, time, step)
    _require_unchanged_request(training)


def _select_distinct(frames: list[tuple[Call, pl.DataFrame]]) -> list[tuple[str, pl.DataFrame]]:
    """Return the frames that can have other features than the join: those of the project's own steps, and the first."""
    first, *others = frames
    own = [(call, frame) for call, frame in others if not call.step.__module__.startswith("tidemill.")]
    return [(f"step {call.node!r}", frame) for call, frame in (first, *own) if frame.height]


def _materialize(training: SampleTraining, time: datetime) -> SqliteOnline:
    """Return an online store with the values of all views at a time."""
    file = training.folder / "online" / f"{time:%Y%m%dT%H%M%S%f}.db"
    is_new, online = not file.exists(), SqliteOnline(file)
    for view in training.sample.features.views if is_new else ():
        materialize(view, training.sample.sources, online, time)
    return online


def _require_equal_lookup(
    sample: Sample, rows: pl.DataFrame, views: tuple[str, ...], online: SqliteOnline, time: datetime, step: str
) -> None:
    if rows.is_empty():
        return
    served = Lookup(online).fill(replace(sample.features, transformations=()), rows.drop(views), time)
    for skew in compute_skews(served, rows, views, pl.Series(range(rows.height))):
        if skew.differ:
            fail(
                f"offline and online features differ: {skew.feature!r} at {time:%Y-%m-%d %H:%M} is {skew.joined} in "
                f"the rows of {step}, and {skew.served} in the online store",
                "compute features only in feature views and transformations, which training and serving share",
            )


def _require_unchanged_request(training: SampleTraining) -> None:
    sample = training.sample
    computed = {name for transformation in sample.features.transformations for name in transformation.outputs}
    names = [name for name in sample.features.request if name in sample.rows.columns and name not in computed]
    source = sample.rows.select(ROW_ID, *names)
    for call, frame in training.list_frames(ROW_ID, *names):
        pairs = frame.select(ROW_ID, *names).join(source, on=ROW_ID, suffix="_source").drop_nulls(ROW_ID)
        for name in names:
            given, expected = pairs[name], pairs[f"{name}_source"]
            different = given.cast(pl.String).ne_missing(expected.cast(pl.String))
            if given.dtype.is_numeric() and expected.dtype.is_numeric():
                different = given.cast(pl.Float64).ne_missing(expected.cast(pl.Float64))
            if different.any():
                index = int(different.arg_max() or 0)
                fail(
                    f"offline and online features differ: step {call.node!r} changed {name!r} from "
                    f"{expected[index]!r} to {given[index]!r}, but a request has the value of the source",
                    "compute it in a function with @tidemill.transformation in features.py, which also runs at serving",
                )


def _choose_times(times: pl.Series) -> list[datetime]:
    """Return some times of the sample, from its oldest to its newest."""
    distinct = times.unique().sort()
    positions = sorted({index * (len(distinct) - 1) // (_TIMES - 1) for index in range(_TIMES)})
    return [distinct[position] for position in positions]
