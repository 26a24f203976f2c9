"""Splits as a policy asks for them: where patients come again, a random split flatters and one by group does not."""

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
from tidemill.recipes.training import choose_inputs, split
from tidemill.training.evaluate import to_truth

OWN = """
import polars as pl

from datetime import datetime
from tidemill import pipeline, step
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy
from tidemill.data.split import at_random, by_group
from tidemill.recipes import judging
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.rows import extract, join_features, take_snapshot
from tidemill.recipes.training import choose_inputs, describe, fit, learn_vocabularies


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
    tested = judging.measure_on(candidate, test, policy, "test", metrics)
    data, trial = judging.look_into_data(snapshot), judging.try_out(candidate, policy.gate)
    champion = judging.find_champion(policy)
    judging.gate(candidate, champion, train, test, policy, tested, data, trial, metrics, validation=validation)
"""


def visits(patients: int = 200, each: int = 8, seed: int = 7) -> pl.DataFrame:
    """Patients who come again: age and weight give each of them away, and only the dose says something of others."""
    random = np.random.default_rng(seed)
    rows, whose = patients * each, np.repeat(np.arange(patients), each)
    dose, sickly = random.normal(size=rows), random.normal(0, 2.5, patients)[whose]
    return pl.DataFrame(
        {
            "visit": range(rows),
            "patient": [f"é{one}" for one in whose],
            "weight": random.normal(70, 12, patients)[whose].round(3),
            "age": random.uniform(20, 90, patients)[whose].round(3),
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


def claimed_and_true(folder: Path) -> tuple[float, float]:
    """The area under the curve that a release claims, and the one that it has on patients that nobody has seen."""
    session = open_session(Project(folder))
    (release,) = session.workspace.ledger.releases.find()
    new = visits(4000, each=1, seed=8)
    answers = load(session.packages.load(release.package)).predict(new).probabilities
    assert answers is not None
    truth = to_truth(new["ill"], "classification", ("false", "true"))
    return release.metrics["test_roc_auc"], measure(truth, answers)["roc_auc"]


def test_a_random_split_flatters_where_a_split_by_group_does_not(grouped: Path, tmp_path: Path) -> None:
    flattered = hospital(tmp_path / "random", 'split = "random"')
    tidemill(flattered, "run", "training")
    claimed, worse = claimed_and_true(flattered)
    assert claimed > worse + 0.15
    claimed, true = claimed_and_true(grouped)
    assert abs(claimed - true) < 0.06
    assert true > worse, "the rounds, too, were chosen on patients whom it knew"


def test_every_part_has_patients_of_its_own(grouped: Path) -> None:
    """Validation rows come by the same split, and they are there."""
    session = open_session(Project(grouped))
    (done,) = session.workspace.ledger.runs.find(pipeline="training")
    (step,) = session.workspace.ledger.steps.find(run=done.id, step="split")
    assert step.state == "ran"
    policy, sources = session.project.policy.models["hospital"], session.resource(resources.Sources)
    parts = split(visits(), policy, sources)
    assert sorted(visit for part in parts for visit in part["visit"]) == list(range(1600))
    assert [part["patient"].n_unique() for part in parts] == [136, 24, 40], "together 200: each is in one"
    again = choose_inputs(parts[0], replace(policy, inputs=Inputs()), FeatureSet(request=()), sources)
    assert again.request == ("weight", "age", "dose"), "who a patient is says nothing of others"


def test_strata_are_kept_by_the_step(grouped: Path) -> None:
    session = open_session(Project(grouped))
    policy, sources = session.project.policy.models["hospital"], session.resource(resources.Sources)
    stratified = replace(policy, training=replace(policy.training, split="stratified", group=""))
    rows = visits().filter(pl.col("ill") | (pl.col("visit") % 25 == 0))
    shares = [part["ill"].mean() for part in split(rows, stratified, sources)]
    assert max(shares) - min(shares) < 0.01  # type: ignore[operator, type-var]


def test_patients_whom_the_champion_knows_are_not_compared_on(grouped: Path, tmp_path: Path) -> None:
    """The same rows come again: all of them are of patients whom the champion has seen."""
    again = Path(shutil.copytree(grouped, tmp_path / "hospital"))
    tidemill(again, "run", "training")
    verdict = listed(again, "checks", "list", "--check", "gate")[0]
    assert (verdict["outcome"], verdict["action"]) == ("warn", "proceed"), verdict["reason"]
    assert verdict["evidence"]["compared_rows"] == 0


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("at_random(frame, 0.5, 0.0, 0)", "test rows are of 200 values of 'patient' that it has learned from"),
        ("tuple(by_group(frame, 'patient', 0.2, 0, 0)[part] for part in (0, 2, 2))", "100% of the test rows are among"),
    ],
    ids=["patients on both sides", "rounds chosen on test rows"],
)
def test_a_step_of_ones_own_that_shares_patients_is_refused(grouped: Path, parts: str, said: str) -> None:
    pipeline = grouped / "pipeline.py"
    before = pipeline.read_text()
    pipeline.write_text(before + OWN.replace("SPLIT", parts))
    try:
        told = tidemill(grouped, "run", "careless", code=3)
    finally:
        pipeline.write_text(before)
    assert said in told.stderr


def test_a_group_that_is_no_column_is_told(tmp_path: Path) -> None:
    folder = hospital(tmp_path / "nobody", 'split = "group"\ngroup = "person"')
    told = tidemill(folder, "run", "training", code=2)
    assert "there is no column 'person' to group by" in told.stderr
