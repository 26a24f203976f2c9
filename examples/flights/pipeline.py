"""The pipelines of the flights project: the recipes as they are, and two careless trainings that the demo plants."""

from datetime import datetime

import polars as pl
from msgspec.structs import replace

from tidemill import pipeline, step
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy
from tidemill.recipes import ingestion, materialization, training, watching
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.training import extract, join_features, take_snapshot, train_on

__all__ = ["ingestion", "materialization", "mislabelled", "peeking", "training", "watching"]


@pipeline
def peeking(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """A candidate that learns from the departure delay: brilliant offline, blind when it is asked before departure."""
    training(policy, replace(features, request=(*features.request, "dep_delay")), until)


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
