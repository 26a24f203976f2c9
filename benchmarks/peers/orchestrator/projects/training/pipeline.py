"""A training in six steps, as a user writes it; each writes to a trace, and the fourth fails if $BENCH_FAIL is set."""

import os
from pathlib import Path

import polars as pl

from tidemill import Model, pipeline, step


def write_trace(name: str) -> None:
    """Write the name of a step that runs to the trace."""
    with Path(os.environ["BENCH_TRACE"]).open("a") as trace:
        trace.write(name + "\n")


@step
def load() -> pl.DataFrame:
    """Return 200,000 rows with 19 features and a label."""
    import numpy as np

    write_trace("load")
    random = np.random.default_rng(0)
    features = random.standard_normal((200_000, 19))
    label = features[:, :5].sum(1) + random.standard_normal(200_000) > 0
    frame = pl.DataFrame(features, schema=[f"f{column}" for column in range(19)])
    return frame.with_columns(y=pl.Series(label.astype("float64")))


@step
def validate(frame: pl.DataFrame) -> dict[str, float]:
    """Check that no column and no value is missing."""
    write_trace("validate")
    assert frame.width == 20
    assert not sum(frame.null_count().row(0))
    described = frame.describe()
    return {"rows": frame.height, "mean": described.row(2)[1]}


@step
def split(frame: pl.DataFrame, report: dict[str, float]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first four fifths of the rows, and the rest."""
    write_trace("split")
    assert report["rows"] == frame.height
    cut = frame.height * 4 // 5
    return frame[:cut], frame[cut:]


@step
def train(rows: pl.DataFrame) -> Model:
    """Train a small booster."""
    write_trace("train")
    if os.environ.get("BENCH_FAIL"):
        raise RuntimeError("BENCH_FAIL is set")
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
    """Return the accuracy."""
    write_trace("evaluate")
    import lightgbm
    import numpy as np

    booster = lightgbm.Booster(model_str=model.files["model.txt"].decode())
    right = (np.asarray(booster.predict(rows.drop("y").to_numpy())) > 0.5) == rows["y"].to_numpy()
    return {"accuracy": float(right.mean())}


@step
def register(model: Model, metrics: dict[str, float]) -> dict[str, float]:
    """Return the record for a registry."""
    write_trace("register")
    return {"version": 1, "bytes": len(model.files["model.txt"]), **metrics}


@pipeline
def training() -> None:
    """Load, validate, split, train, evaluate, register."""
    frame = load()
    rows, test_rows = split(frame, validate(frame))
    model = train(rows)
    register(model, evaluate(model, test_rows))
