"""The splits of a policy: with repeated patients, a random split is too optimistic and a split by group is not."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import listed, tidemill
from tidemill.compose.session import open_session
from tidemill.core import resources
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import Inputs
from tidemill.data.metrics import measure
from tidemill.models.load import load
from tidemill.project.guessing import guess_columns
from tidemill.project.project import Project
from tidemill.project.starting import write_project
from tidemill.recipes.inputs import choose_inputs
from tidemill.recipes.training import split
from tidemill.training.evaluate import to_truth

OWN = """
import polars as pl

from datetime import datetime
from tidemill import pipeline, step
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy
from tidemill.data.split import split_at_random, split_by_group
from tidemill.recipes import judging
from tidemill.recipes.gating import GateFacts
from tidemill.recipes.scoring import SplitRows
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.rows import extract, join_features, take_snapshot
from tidemill.recipes.inputs import choose_inputs
from tidemill.recipes.fitting import describe, fit, learn_vocabularies


@step
def halve(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    return SPLIT


@pipeline
def careless(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    frame = join_features(rows, features, snapshot)
    inputs = choose_inputs(frame, policy, features)
    train, validation, test = halve(frame)
    candidate = fit(
        train, validation, learn_vocabularies(train, inputs), describe(train, inputs), policy, inputs, snapshot
    )
    metrics = judging.find_metrics()
    test_metrics = judging.measure_on(candidate, test, policy, "test", metrics)
    snapshot_check, probe = judging.check_snapshot(snapshot), judging.probe_package(candidate, policy.gate)
    champion = judging.find_champion(policy)
    facts = GateFacts(test_metrics, snapshot_check, probe, metrics)
    judging.gate(candidate, champion, SplitRows(train, validation, test), facts, policy)
"""


def visits(patients: int = 200, visits_each: int = 8, seed: int = 7) -> pl.DataFrame:
    """Repeated visits of patients: age and weight identify a patient, and only the dose predicts for other patients."""
    random = np.random.default_rng(seed)
    rows, patient_of_row = patients * visits_each, np.repeat(np.arange(patients), visits_each)
    dose, sickly = random.normal(size=rows), random.normal(0, 2.5, patients)[patient_of_row]
    return pl.DataFrame(
        {
            "visit": range(rows),
            "patient": [f"é{patient}" for patient in patient_of_row],
            "weight": random.normal(70, 12, patients)[patient_of_row].round(3),
            "age": random.uniform(20, 90, patients)[patient_of_row].round(3),
            "dose": dose.round(3),
            "ill": random.random(rows) < 1 / (1 + np.exp(-sickly - 1.5 * dose)),
        }
    )


def hospital(folder: Path, training: str) -> Path:
    folder.mkdir()
    table = folder / "visits.csv"
    visits().write_csv(table)
    write_project(folder, guess_columns(pl.read_csv(table), "ill", key="visit"), table)
    file = folder / "tidemill.toml"
    text = file.read_text().replace("[training]\n", f"[training]\n{training}\n").replace('    "patient",\n', "")
    text = text.replace("[gate]", "[gate]\nbaseline_margin = -1.0", 1)  # so few patients prove nothing
    file.write_text(text)
    return folder


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = hospital(tmp_path_factory.mktemp("split") / "hospital", 'split = "group"\ngroup = "patient"')
    tidemill(folder, "run", "training")
    return folder


def measure_claimed_and_true(folder: Path) -> tuple[float, float]:
    """Return the area under the curve in a release, and the area on new patients."""
    session = open_session(Project(folder))
    (release,) = session.workspace.ledger.releases.find()
    new = visits(4000, visits_each=1, seed=8)
    probabilities = load(session.packages.load(release.package)).predict(new).probabilities
    assert probabilities is not None
    truth = to_truth(new["ill"], "classification", ("false", "true"))
    return release.metrics["test_roc_auc"], measure(truth, probabilities)["roc_auc"]


def test_a_random_split_is_too_optimistic_where_a_split_by_group_is_not(grouped: Path, tmp_path: Path) -> None:
    optimistic = hospital(tmp_path / "random", 'split = "random"')
    tidemill(optimistic, "run", "training")
    claimed, worse = measure_claimed_and_true(optimistic)
    assert claimed > worse + 0.15
    claimed, true = measure_claimed_and_true(grouped)
    assert abs(claimed - true) < 0.06
    assert true > worse, "the rounds were chosen on known patients, too"


def test_no_patient_is_in_two_parts(grouped: Path) -> None:
    """The same split gives the validation rows."""
    session = open_session(Project(grouped))
    (done,) = session.workspace.ledger.runs.find(pipeline="training")
    (step,) = session.workspace.ledger.steps.find(run=done.id, step="split")
    assert step.state == "ran"
    policy, sources = session.project.policy.models["hospital"], session.resource(resources.Sources)
    tables = session.resource(resources.TableReader)
    parts = split(visits(), policy, sources)
    assert sorted(visit for part in parts for visit in part["visit"]) == list(range(1600))
    assert [part["patient"].n_unique() for part in parts] == [136, 24, 40], "200 in all: each patient is in one part"
    again = choose_inputs(parts[0], replace(policy, inputs=Inputs()), FeatureSet(request=()), sources, tables)
    assert again.request == ("weight", "age", "dose"), "the patient column is not an input"


def test_the_step_keeps_the_strata(grouped: Path) -> None:
    session = open_session(Project(grouped))
    policy, sources = session.project.policy.models["hospital"], session.resource(resources.Sources)
    stratified = replace(policy, training=replace(policy.training, split="stratified", group=""))
    rows = visits().filter(pl.col("ill") | (pl.col("visit") % 25 == 0))
    shares = [part["ill"].mean() for part in split(rows, stratified, sources)]
    assert max(shares) - min(shares) < 0.01  # type: ignore[operator, type-var]


def test_models_are_not_compared_on_patients_of_the_champion_s_training(grouped: Path, tmp_path: Path) -> None:
    """The same rows again: the champion was trained on all of their patients."""
    again = Path(shutil.copytree(grouped, tmp_path / "hospital"))
    tidemill(again, "run", "training")
    verdict = listed(again, "checks", "list", "--check", "gate")[0]
    assert (verdict["outcome"], verdict["action"]) == ("warn", "proceed"), verdict["reason"]
    assert verdict["evidence"]["compared_rows"] == 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            "split_at_random(frame, 0.5, 0.0, 0)",
            "test rows belong to 200 values of 'patient' that are also in its training rows",
        ),
        (
            "tuple(split_by_group(frame, 'patient', 0.2, 0, 0)[part] for part in (0, 2, 2))",
            "100% of the test rows are among",
        ),
    ],
    ids=["patients on both sides", "rounds chosen on test rows"],
)
def test_a_project_step_that_shares_patients_is_stopped(grouped: Path, parts: str, message: str) -> None:
    pipeline = grouped / "pipeline.py"
    before = pipeline.read_text()
    pipeline.write_text(before + OWN.replace("SPLIT", parts))
    try:
        result = tidemill(grouped, "run", "careless", code=3)
    finally:
        pipeline.write_text(before)
    assert message in result.stderr


def test_the_error_names_a_group_that_is_not_a_column(tmp_path: Path) -> None:
    folder = hospital(tmp_path / "nobody", 'split = "group"\ngroup = "person"')
    result = tidemill(folder, "run", "training", code=2)
    assert "there is no column 'person' to group by" in result.stderr
