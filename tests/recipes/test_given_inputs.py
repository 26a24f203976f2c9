"""Inputs that only a step of the project makes are refused before the training: no request has them."""

from pathlib import Path

import pytest

from tests.projects import make_project, tidemill

PIPELINE = """
from datetime import datetime

import polars as pl

from tidemill import FeatureSet, ModelPolicy, pipeline, step
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.rows import extract, join_features, take_snapshot
from tidemill.recipes.training import train_on


@step(transient=True)
def prepared(rows: pl.DataFrame) -> pl.DataFrame:
    return {expression}


@pipeline
def training(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = prepared(extract(snapshot, policy.problem, policy.training, policy.name))
    train_on(join_features(rows, features, snapshot), policy, features, snapshot)
"""
REQUEST = 'request = [\n    "ordered",\n    "distance_km",\n    "items",\n    "carrier",\n]'
CASES = {
    "a new column": ('rows.with_columns(speed=pl.col("distance_km") / 2)', "the input 'speed' comes from a step"),
    "a scaled column": ('rows.with_columns(pl.col("distance_km") * 2)', "changed values of the input 'distance_km'"),
    "another writing": (
        'rows.with_columns(pl.col("carrier").str.to_uppercase())',
        "changed values of the input 'carrier'",
    ),
    "filled gaps": ('rows.with_columns(pl.col("items").fill_null(1))', ""),
    "dropped rows": ('rows.filter(pl.col("distance_km") > 100)', ""),
    "repeated rows": ("pl.concat([rows, rows.head(100)]).sort('_tidemill_time')", ""),
    "a column that is not used": ("rows.with_columns(speed=1.0)", ""),
}


def write_pipeline(folder: Path, expression: str) -> None:
    file = folder / "pipeline.py"
    file.write_text(file.read_text() + PIPELINE.format(expression=expression))


@pytest.mark.parametrize("case", CASES)
def test_an_input_that_only_a_step_makes_is_refused(tmp_path: Path, case: str) -> None:
    expression, message = CASES[case]
    chosen = 'exclude = ["speed"]' if case == "a column that is not used" else "exclude = []"
    make_project(tmp_path / "shop", replace={REQUEST: chosen, "[gate] ": "[gate]\nenabled = false\n# "})
    write_pipeline(tmp_path / "shop", expression)
    done = tidemill(tmp_path / "shop", "run", "training", code=2 if message else 0)
    assert message in done.stderr
    if message:
        assert "@tidemill.transformation" in done.stderr


def test_an_input_that_the_policy_names_is_refused_too(tmp_path: Path) -> None:
    make_project(tmp_path / "shop", replace={REQUEST: 'request = ["distance_km", "speed"]'})
    write_pipeline(tmp_path / "shop", CASES["a new column"][0])
    assert "the input 'speed' comes from a step" in tidemill(tmp_path / "shop", "run", "training", code=2).stderr


@pytest.mark.parametrize("feedback", ["false", "true"])
def test_a_changed_value_that_other_rows_have_is_refused(tmp_path: Path, feedback: str) -> None:
    """Every row after the step equals some row of the table, but not the row with its id."""
    replaced = {REQUEST: 'request = ["carrier"]', "[training]\n": f"[training]\nfeedback = {feedback}\n"}
    make_project(tmp_path / "shop", replace=replaced)
    write_pipeline(tmp_path / "shop", 'rows.with_columns(pl.col("carrier").replace("swift", "steady"))')
    done = tidemill(tmp_path / "shop", "run", "training", code=2)
    assert "changed values of the input 'carrier'" in done.stderr
