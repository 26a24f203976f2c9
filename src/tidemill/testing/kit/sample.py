"""The reference sample of a project: the newest labelled rows of a model's source, and the rows that its views need."""

from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import polars as pl
from msgspec.structs import replace

from tidemill.clock import parse_duration
from tidemill.compose.backends import open_sources
from tidemill.core.columns import KNOWN_AT, TIME, is_internal
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import RecordedSources
from tidemill.errors import NotFound, TidemillError
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.models.transforming import transform
from tidemill.project.project import Project
from tidemill.testing.kit.failing import fail

ROWS = 2_000
_LEAST_ROWS = 50
_WHOLE_SOURCE = 20_000
_NO_LIMIT = 1e6
_MARGIN = timedelta(days=1)
REFERENCE = "tests/reference"


class Sample:
    """The reference sample of one model.

    Attributes
    ----------
    project
        The project with the settings of a training on few rows.
    policy
        The settings of the model, as `tidemill.toml` declares them.
    rows
        The labelled rows, oldest first, with their times.
    frames
        The rows of each source, by its name.
    until
        The time of the sample: all its rows and labels are known then.
    """

    def __init__(self, project: Project, policy: ModelPolicy, frames: dict[str, pl.DataFrame], until: datetime) -> None:
        self.policy = policy
        self.frames = frames
        self.until = until
        model = shrink_policy(policy)
        self.project = Project(project.folder, replace(project.policy, models={policy.name: model}))
        self.project.__dict__["code"] = project.code  # one state of the code for all trainings

    @property
    def model(self) -> ModelPolicy:
        """The settings of a training on the sample."""
        return self.project.policy.models[self.policy.name]

    @property
    def label(self) -> str:
        """The name of the label."""
        return self.policy.problem.label

    @cached_property
    def features(self) -> FeatureSet:
        """The features of the model, with the columns of a request."""
        features = self.project.features(self.policy)
        return features if features.request else replace(features, request=self._list_request_columns())

    @cached_property
    def sources(self) -> RecordedSources:
        """The sources of the project with the rows of the sample."""
        return self.open_sources(self.frames)

    def open_sources(self, frames: dict[str, pl.DataFrame]) -> RecordedSources:
        """Open the sources of the project with other rows."""
        policy = self.project.policy
        return open_sources(self.project.folder, policy.sources, frames, labels=policy.labels)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The labelled rows, oldest first."""
        rows = self.sources.source_history(self.policy.problem.source)
        return rows.filter(pl.col(self.label).is_not_null()).sort(TIME, maintain_order=True)

    @cached_property
    def joined(self) -> pl.DataFrame:
        """The labelled rows with the features of all views."""
        return OfflineFeatures(self.sources).join(self.rows, self.features, self.until)

    @cached_property
    def complete(self) -> pl.DataFrame:
        """The labelled rows with the features of all views and the columns of all transformations."""
        return transform(self.joined, self.features)

    def _list_request_columns(self) -> tuple[str, ...]:
        policy, source = self.policy, self.project.policy.sources[self.policy.problem.source]
        known_later = {*source.later, policy.problem.label, policy.problem.label_known_at}
        other = {*source.key, source.time, source.known_at, policy.training.group, *policy.inputs.exclude}
        dtypes = self.rows.schema
        return tuple(
            name
            for name in self.rows.columns
            if name not in known_later | other and not is_internal(name) and not dtypes[name].is_nested()
        )


def shrink_policy(policy: ModelPolicy) -> ModelPolicy:
    """Return the settings for a training on few rows: no search, and a gate without statistical limits.

    A few thousand rows cannot prove that a candidate is good enough; every other check of the gate remains.
    """
    training = replace(policy.training, minimum_rows=min(policy.training.minimum_rows, _LEAST_ROWS), search=None)
    gate = replace(
        policy.gate,
        margin=_NO_LIMIT,
        baseline_margin=-_NO_LIMIT,
        better=False,
        thresholds={},
        leakage=1.0,
        environment="present",
        latency_ms=None,
        memory_mb=None,
    )
    return replace(policy, training=training, gate=gate)


def take_sample(project: Project, policy: ModelPolicy, rows: int = ROWS) -> Sample:
    """Take the reference sample of a model: its newest labelled rows, or a seeded choice if they have no time.

    The files in `tests/reference/` replace the rows of the sources with their names.
    """
    source = policy.problem.source
    sources = open_sources(
        project.folder, project.policy.sources, _read_references(project), labels=project.policy.labels
    )
    history = _read_history(sources, source)
    if policy.problem.label not in history.columns:
        fail(
            f"source {source!r} has no column {policy.problem.label!r}, the label of model {policy.name!r}",
            "correct label under [problem] in tidemill.toml",
        )
    labelled = history.filter(pl.col(policy.problem.label).is_not_null())
    if labelled.is_empty():
        fail(f"no row of source {source!r} has a label", "add labelled rows, or correct label under [problem]")
    if project.policy.sources[source].time:
        chosen = labelled.sort(TIME, maintain_order=True).tail(rows)
    else:
        chosen = labelled.sample(min(rows, labelled.height), seed=0, shuffle=False)
    start = chosen[TIME].min()
    known = [chosen[name].max() for name in (TIME, KNOWN_AT, policy.problem.label_known_at) if name in chosen.columns]
    until = max(time for time in known if isinstance(time, datetime))
    assert isinstance(start, datetime)
    frames = {source: chosen}
    for name in project.policy.sources:
        if name != source and any(view.source == name for view in project.code.views.values()):
            frames[name] = _select_needed(_read_history(sources, name), project, name, start, until)
    return Sample(project, policy, {name: _drop_internal(frame) for name, frame in frames.items()}, until + _MARGIN)


def write_references(sample: Sample) -> list[Path]:
    """Write the rows of a sample to `tests/reference/`, for machines that do not have the data; return the files."""
    folder = sample.project.folder / REFERENCE
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in sample.frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return [folder / f"{name}.parquet" for name in sample.frames]


def _read_references(project: Project) -> dict[str, pl.DataFrame]:
    files = sorted((project.folder / REFERENCE).glob("*.parquet"))
    return {file.stem: pl.read_parquet(file) for file in files if file.stem in project.policy.sources}


def _read_history(sources: RecordedSources, name: str) -> pl.DataFrame:
    try:
        return sources.source_history(name)
    except NotFound:
        raise
    except TidemillError as error:
        fail(
            f"source {name!r} has no rows for the tests: {error.problem}",
            "on a machine with the data run `tidemill ci generate-tests --sample`, and commit tests/reference/",
        )


def _select_needed(
    history: pl.DataFrame, project: Project, name: str, start: datetime, until: datetime
) -> pl.DataFrame:
    """Return the rows of a view's source that features between two times can need."""
    views = [view for view in project.code.views.values() if view.source == name]
    known = history.filter(pl.col(KNOWN_AT) <= until)
    if not project.policy.sources[name].time or known.height <= _WHOLE_SOURCE:
        return known
    windows = [parse_duration(aggregate.window) for view in views for aggregate in view.aggregates]
    windows += [parse_duration(view.ttl) for view in views if view.ttl and view.columns]
    recent = known.filter(pl.col(KNOWN_AT) >= start - max(windows, default=_MARGIN) - _MARGIN)
    if any(view.columns and not view.ttl for view in views):
        keys = sorted({key for view in views for key in view.entity.keys})
        older = known.filter(pl.col(KNOWN_AT) < start).sort(KNOWN_AT).unique(keys, keep="last", maintain_order=True)
        recent = pl.concat([older, recent]).unique(maintain_order=True)
    return recent


def _drop_internal(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(name for name in frame.columns if not is_internal(name))
