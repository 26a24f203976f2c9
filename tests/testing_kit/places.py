"""Sound projects with places for faults: steps, an encoder, a transformation and a view of their own."""

import csv
import random
import shutil
from pathlib import Path

from tests.docs.pages import ROOT
from tests.projects import tidemill
from tidemill.project.generated_tests import write_test_files

_PIPELINE = '''"""The pipelines of this project: the recipes, with steps of its own in the training."""

from datetime import datetime

import polars as pl

from tidemill import Encoding, FeatureSet, ModelPolicy, fit_encoding, pipeline, step
from tidemill.recipes import ingestion, materialization, watching
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.rows import extract, join_features, take_snapshot
from tidemill.recipes.training import train_on

__all__ = ["ingestion", "materialization", "training", "watching"]


@step(transient=True)
def clean(rows: pl.DataFrame, label: str) -> pl.DataFrame:
    """Exclude rows without an input."""
    return rows.filter(pl.col(label).is_not_null())


@step
def complete(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with their features."""
    return frame


@step
def learn_levels(frame: pl.DataFrame, features: FeatureSet) -> Encoding:
    """Fit the encoding of inputs as numbers."""
    return fit_encoding(frame, features.names)


@pipeline
def training(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """The usual training, with steps of this project."""
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    rows = clean(rows, policy.problem.label)
    frame = complete(join_features(rows, features, snapshot))
    train_on(frame, policy, features, snapshot, prepare=learn_levels)
'''

_TRANSFORMATION = '''

@transformation
def pace({above}: pl.Series, {below}: pl.Series) -> pl.Series:
    """Return a ratio that is missing where its divisor is zero."""
    return pl.select(pl.when({below} != 0).then({above} / {below})).to_series()
'''


def make_flights(folder: Path) -> Path:
    """Copy the example of flights, with places for faults."""
    project = folder / "flights"
    shutil.copytree(ROOT / "examples" / "flights", project, ignore=shutil.ignore_patterns(".tidemill", "__pycache__"))
    _add_places(project, "distance", "scheduled_minutes")
    tidemill(project, "ci", "generate-tests", "--sample")  # the tests need no other rows
    shutil.rmtree(project / "data")
    return project


def make_own_table(folder: Path) -> Path:
    """Create the README's project of a table of one's own, with a register of its channels and places for faults."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(1)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened)
        table.writerow(["minutes", "channel", "y"])
        for _ in range(600):
            likely = chance.random()
            channel = chance.choice(["phone", "other", "third"])
            table.writerow([round(likely * 25, 2), channel, int(chance.random() < likely)])
    tidemill(folder, "init", "mine", "--from", "table.csv", "--label", "y")
    project = folder / "mine"
    (project / "data" / "channels.csv").write_text("channel,fee\nphone,2.5\nother,1.0\nthird,4.0\n")
    replace_passage(
        project / "tidemill.toml",
        "[inputs]",
        '[sources.channels]\npath = "data/channels.csv"\n\n[inputs]\nviews = ["fees"]',
    )
    (project / "features.py").write_text(
        '"""Features of this project."""\n\nfrom tidemill import Entity, FeatureView\n\n'
        'fees = FeatureView(name="fees", entity=Entity("channel", ("channel",)), source="channels", columns=("fee",))\n'
    )
    _add_places(project, "minutes", "minutes")
    return project


def _add_places(project: Path, above: str, below: str) -> None:
    (project / "pipeline.py").write_text(_PIPELINE)
    features = project / "features.py"
    replace_passage(features, "from tidemill import ", "import polars as pl\n\nfrom tidemill import transformation, ")
    body = _TRANSFORMATION.format(above=above, below=below)
    if above == below:
        body = body.replace(f"def pace({above}: pl.Series, {below}: pl.Series)", f"def pace({above}: pl.Series)")
        body = body.replace(f"then({above} / {below})", f"then(1 / {below})")
    features.write_text(features.read_text() + body)
    write_test_files(project)


def replace_passage(file: Path, passage: str, other: str) -> None:
    """Replace the first passage of a file that must have it."""
    text = file.read_text()
    assert passage in text, f"{file.name} has no {passage!r}"
    file.write_text(text.replace(passage, other, 1))
