"""The pipelines of the flights project: the recipes as they are, and two careless trainings for the demo to plant."""

from datetime import datetime

import polars as pl

from tidemill import FeatureSet, ModelPolicy, pipeline, step
from tidemill.recipes import ingestion, materialization, training, watching
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.rows import extract, join_features, take_snapshot
from tidemill.recipes.training import train_on

__all__ = ["ingestion", "materialization", "mislabelled", "percentages", "training", "watching"]


@step(transient=True)
def shuffle_labels(rows: pl.DataFrame, label: str) -> pl.DataFrame:
    """The accident of a join on the wrong key: every row gets some other row's label."""
    return rows.with_columns(pl.col(label).shuffle(seed=1))


@pipeline
def mislabelled(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """A candidate that was trained on mixed-up labels."""
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    train_on(join_features(shuffle_labels(rows, policy.problem.label), features, snapshot), policy, features, snapshot)


@step(transient=True)
def as_percentages(frame: pl.DataFrame) -> pl.DataFrame:
    """Delay rates from 0 to 100, in the training frame only: requests will still bring 0 to 1."""
    return frame.with_columns(pl.col("^.*_late_.*$") * 100)


@pipeline
def percentages(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """A candidate that is as good as any offline, and does not understand what it is asked live."""
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    train_on(as_percentages(join_features(rows, features, snapshot)), policy, features, snapshot)
