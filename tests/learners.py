"""A small project with an online learner: alarms depend on the temperature, and later also on the humidity."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tidemill.project.project import Project

MODEL = "sensors"
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_POLICY = """
[project]
name = "sensors"

[problem]
decision = "inspect the sensor"
source = "rows"
label = "alarm"
task = "classification"
metric = "log_loss"

[sources.rows]
path = "data/rows.csv"
time = "read_at"
key = ["reading"]

[training]
estimator = "learner:create"
test_share = 0.3
test = "2d"
minimum_test_rows = 100

[gate]
margin = 0.02

[rollout]
canary = false

[watch]
notify = ["log"]

[[watch.values]]
value = "log_loss"
limit = 0.2
action = "ignore"

[[triggers]]
name = "labels"
on = "labels"
rows = 120
pipeline = "learning"
"""
_PIPELINE = """from tidemill.recipes import learning, training, watching

__all__ = ["learning", "training", "watching"]
"""
_LEARNER = '''"""The online learner of the sensors project."""

from river import compose, linear_model, optim, preprocessing


def create() -> compose.Pipeline:
    """Return a learner of scaled numbers and of the room, which is a text."""
    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    rooms = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + rooms) | linear_model.LogisticRegression(optim.SGD(0.05))
'''


def write_sensors(folder: Path, *, replace: dict[str, str] | None = None) -> Project:
    """Write the project with its history, with passages of its tidemill.toml replaced."""
    (folder / "data").mkdir(parents=True)
    text = _POLICY
    for passage, other in (replace or {}).items():
        assert passage in text, passage
        text = text.replace(passage, other)
    (folder / "tidemill.toml").write_text(text)
    (folder / "features.py").write_text("")
    (folder / "pipeline.py").write_text(_PIPELINE)
    (folder / "learner.py").write_text(_LEARNER)
    file = folder / "data" / "rows.csv"
    history(600).write_csv(file)
    delivered = (BEGIN + timedelta(days=15)).timestamp()
    os.utime(file, (delivered, delivered))
    return Project(folder)


def history(rows: int, seed: int = 0) -> pl.DataFrame:
    """Labelled rows in which only the temperature matters."""
    readings = make_readings(rows, seed, weight=0.0)
    times = [BEGIN + timedelta(minutes=30 * index) for index in range(rows)]
    return readings.with_columns(
        pl.Series("read_at", times), pl.Series("reading", [f"h{index}" for index in range(rows)])
    )


def make_readings(rows: int, seed: int, *, weight: float) -> pl.DataFrame:
    """Rows whose alarm depends on the temperature, and by `weight` on the humidity."""
    random = np.random.default_rng(seed)
    temperature, humidity = random.normal(20, 5, rows), random.normal(50, 10, rows)
    score = 0.5 * (temperature - 20) + weight * (humidity - 50) / 10
    return pl.DataFrame(
        {
            "temperature": temperature,
            "humidity": humidity,
            "room": random.choice(["cellar", "roof"], rows),
            "alarm": np.where(score + random.logistic(size=rows) > 0, "yes", "no"),
        }
    )


def to_requests(readings: pl.DataFrame, name: str, begin: datetime) -> list[dict[str, Any]]:
    """The rows of requests, each with a key and a time."""
    return [
        {
            "reading": f"{name}{index}",
            "read_at": (begin + timedelta(seconds=index)).isoformat(),
            "temperature": row["temperature"],
            "humidity": row["humidity"],
            "room": row["room"],
        }
        for index, row in enumerate(readings.to_dicts())
    ]


def flip(alarm: str) -> str:
    """The other class."""
    return "no" if alarm == "yes" else "yes"
