"""The pipelines of the flights project: the unchanged recipes, and two wrong trainings that the demo plants."""

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
    """Give every row the label of another row, as a join on the wrong key does."""
    return rows.with_columns(pl.col(label).shuffle(seed=1))


@pipeline
def mislabelled(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """Train a candidate on shuffled labels."""
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    train_on(join_features(shuffle_labels(rows, policy.problem.label), features, snapshot), policy, features, snapshot)


@step(transient=True)
def as_percentages(frame: pl.DataFrame) -> pl.DataFrame:
    """Convert the delay rates to percentages in the training frame only: requests still have rates from 0 to 1."""
    return frame.with_columns(pl.col("^.*_late_.*$") * 100)


@pipeline
def percentages(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """Train a candidate that is good offline and wrong in production, because requests have other units."""
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    train_on(as_percentages(join_features(rows, features, snapshot)), policy, features, snapshot)
