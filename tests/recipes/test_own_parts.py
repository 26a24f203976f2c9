"""A project's own metrics and its own encoding of inputs."""

from pathlib import Path

import polars as pl
import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.errors import ConfigurationError
from tidemill.models.load import load
from tidemill.project.project import Project

OWN = '''
from datetime import datetime

import numpy as np
import polars as pl

from tidemill import metric, pipeline, step
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy
from tidemill.data.encoding import Encoding, fit_encoding
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.rows import extract, join_features, take_snapshot
from tidemill.recipes.training import train_on


@metric(greater_is_better=False)
def cost_per_order(truth, predicted, rows):
    """A late order that nobody expected costs 4, a needless warning COST."""
    missed = (truth == "true") & (predicted == "false")
    needless = (truth == "false") & (predicted == "true")
    assert len(rows) == len(truth)
    return 4 * missed.mean() + COST * needless.mean()


@step
def learn_two_carriers(frame: pl.DataFrame, features: FeatureSet) -> Encoding:
    """Of text, only the two most frequent words; any other word is unseen, in training and in serving."""
    learned = fit_encoding(frame.with_columns(pl.col("carrier").replace("thrifty", None)), features.names)
    return learned


@pipeline
def training(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    train_on(join_features(rows, features, snapshot), policy, features, snapshot, prepare=learn_two_carriers)
'''


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "shop"
    make_project(folder)
    pipeline = folder / "pipeline.py"
    pipeline.write_text(pipeline.read_text() + OWN.replace("COST", "1"))
    toml = folder / "tidemill.toml"
    toml.write_text(toml.read_text() + "\n[gate.thresholds]\ncost_per_order = '< 3'\n")
    tidemill(folder, "run", "training")
    return folder


def test_a_project_metric_is_measured_and_has_a_threshold(shop: Path) -> None:
    (release,) = listed(shop, "models", "list")
    assert 0 < release["metrics"]["test_cost_per_order"] < 3
    (verdict,) = listed(shop, "checks", "list", "--check", "gate")
    assert verdict["evidence"]["threshold_cost_per_order"] == "< 3"


def test_changed_code_of_a_metric_scores_candidate_and_champion_again(shop: Path) -> None:
    pipeline = shop / "pipeline.py"
    before = pipeline.read_text()
    pipeline.write_text(before.replace("4 * missed", "2 * missed"))
    try:
        tidemill(shop, "run", "training")
    finally:
        pipeline.write_text(before)
    first, second = listed(shop, "checks", "list", "--check", "gate")[:2][::-1]
    assert "champion_metrics" not in first["evidence"]
    champion_now = second["evidence"]["champion_metrics"]["cost_per_order"]
    assert champion_now < second["evidence"]["champion_metrics_at_release"]["cost_per_order"]
    assert any("scored again" in finding["reason"] for finding in second["evidence"]["findings"])


def test_serving_uses_the_project_s_own_encoding(shop: Path) -> None:
    session = open_session(Project(shop))
    release = session.workspace.ledger.releases.find(name="shop")[0]
    model = session.packages.load(release.package)
    assert b"thrifty" not in model.files["encoding.json"]
    rows = pl.DataFrame({"distance_km": [300.0, 300.0], "items": [3, 3], "carrier": ["thrifty", "never seen"]})
    rare, unseen = load(model).predict(rows).probabilities  # type: ignore[misc]
    assert list(rare) == list(unseen)


def test_a_metric_with_an_unknown_parameter_is_refused(shop: Path) -> None:
    pipeline = shop / "pipeline.py"
    before = pipeline.read_text()
    pipeline.write_text(before + "\n\n@metric\ndef odd(truth, weather):\n    return 0.0\n")
    try:
        with pytest.raises(ConfigurationError, match="unknown parameters weather; a metric can have: truth, predicted"):
            Project(shop).code  # noqa: B018 - reading the attribute loads the code
    finally:
        pipeline.write_text(before)
