"""A training in six steps, as a user writes it; each notes that it ran, and the fourth fails when told to."""

import os
from pathlib import Path

import polars as pl

from tidemill import Model, pipeline, step


def ran(name: str) -> None:
    """Note that a step ran."""
    with Path(os.environ["BENCH_TRACE"]).open("a") as trace:
        trace.write(name + "\n")


@step
def load() -> pl.DataFrame:
    """200,000 rows: 19 features and a label."""
    import numpy as np

    ran("load")
    random = np.random.default_rng(0)
    features = random.standard_normal((200_000, 19))
    label = features[:, :5].sum(1) + random.standard_normal(200_000) > 0
    frame = pl.DataFrame(features, schema=[f"f{column}" for column in range(19)])
    return frame.with_columns(y=pl.Series(label.astype("float64")))


@step
def validate(frame: pl.DataFrame) -> dict[str, float]:
    """Whether it is whole."""
    ran("validate")
    assert frame.width == 20
    assert not sum(frame.null_count().row(0))
    described = frame.describe()
    return {"rows": frame.height, "mean": described.row(2)[1]}


@step
def split(frame: pl.DataFrame, report: dict[str, float]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first four fifths, and the rest."""
    ran("split")
    assert report["rows"] == frame.height
    cut = frame.height * 4 // 5
    return frame[:cut], frame[cut:]


@step
def train(rows: pl.DataFrame) -> Model:
    """A small booster."""
    ran("train")
    if os.environ.get("BENCH_FAIL"):
        raise RuntimeError("told to fail")
    import lightgbm

    from tidemill.core.model import Input, Manifest, Signature

    matrix, label = rows.drop("y").to_numpy(), rows["y"].to_numpy()
    params = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 1}
    booster = lightgbm.train(params, lightgbm.Dataset(matrix, label), num_boost_round=20)
    inputs = tuple(Input(name=name, type="number") for name in rows.columns[:-1])
    signature = Signature(inputs=inputs, task="classification", classes=("0", "1"))
    manifest = Manifest(name="bench", flavor="lightgbm", signature=signature)
    return Model(manifest=manifest, files={"model.txt": booster.model_to_string().encode()})


@step
def evaluate(model: Model, rows: pl.DataFrame) -> dict[str, float]:
    """How often it is right."""
    ran("evaluate")
    import lightgbm
    import numpy as np

    booster = lightgbm.Booster(model_str=model.files["model.txt"].decode())
    right = (np.asarray(booster.predict(rows.drop("y").to_numpy())) > 0.5) == rows["y"].to_numpy()
    return {"accuracy": float(right.mean())}


@step
def register(model: Model, metrics: dict[str, float]) -> dict[str, float]:
    """What a registry would be told."""
    ran("register")
    return {"version": 1, "bytes": len(model.files["model.txt"]), **metrics}


@pipeline
def training() -> None:
    """Load, validate, split, train, evaluate, register."""
    frame = load()
    rows, held = split(frame, validate(frame))
    model = train(rows)
    register(model, evaluate(model, held))
