"""The reference sample of a project: the newest labelled rows of a model's source, and the rows that its views need."""

from datetime import datetime
from functools import cached_property
from pathlib import Path

import polars as pl
from msgspec.structs import replace

from tidemill.compose.backends import open_sources
from tidemill.core.columns import TIME, is_internal
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import RecordedSources
from tidemill.errors import NotFound, TidemillError
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.models.transforming import transform
from tidemill.project.project import Project
from tidemill.recipes.reference_rows import choose_rows, drop_internal, find_end, select_needed
from tidemill.testing.kit.failing import fail

ROWS = 2_000
_LEAST_ROWS = 50
_NO_LIMIT = 1e6
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
        folder, data = self.project.folder, self.project.data_folder
        return open_sources(folder, policy.sources, frames, labels=policy.labels, data=data)

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
        project.folder,
        project.policy.sources,
        _read_references(project),
        labels=project.policy.labels,
        data=project.data_folder,
    )
    history = _read_history(sources, source)
    if policy.problem.label not in history.columns:
        fail(
            f"source {source!r} has no column {policy.problem.label!r}, the label of model {policy.name!r}",
            "correct label under [problem] in tidemill.toml",
        )
    timed = {name: bool(definition.time) for name, definition in project.policy.sources.items()}
    chosen = choose_rows(history, policy.problem, rows, timed=timed[source])
    if chosen.is_empty():
        fail(f"no row of source {source!r} has a label", "add labelled rows, or correct label under [problem]")
    start, until = chosen[TIME].min(), find_end(chosen, policy.problem)
    assert isinstance(start, datetime)
    frames = {source: chosen}
    for name in project.policy.sources:
        views = [view for view in project.code.views.values() if view.source == name]
        if name != source and views:
            frames[name] = select_needed(_read_history(sources, name), views, start, until, timed=timed[name])
    return Sample(project, policy, {name: drop_internal(frame) for name, frame in frames.items()}, until)


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
