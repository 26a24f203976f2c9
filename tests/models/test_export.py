"""An exported package predicts without Tidemill: in plain Python, and in an environment with only MLflow."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.tree import DecisionTreeClassifier

from tests.projects import make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import Training
from tidemill.data.encoding import encode, fit_encoding
from tidemill.models.flavors import lightgbm, sklearn
from tidemill.models.load import load
from tidemill.models.package import make_portable, to_files
from tidemill.models.portable import PortableModel
from tidemill.training.fit import fit_lightgbm

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RANDOM = np.random.default_rng(5)
ROWS = pl.DataFrame(
    {
        "distance": [None if row % 9 == 0 else float(value) for row, value in enumerate(RANDOM.gamma(2, 100, 400))],
        "pieces": RANDOM.integers(1, 9, 400),
        "carrier": [None if row % 11 == 0 else str(v) for row, v in enumerate(RANDOM.choice(["swift", "Žluť"], 400))],
        "express": RANDOM.random(400) < 0.3,
        "ordered": [NOON + timedelta(minutes=37 * row) for row in range(400)],
    }
)
LABEL = (ROWS["pieces"] + ROWS["express"].cast(pl.Int64) > 5).cast(pl.Int64).to_numpy()
EDGE_ROWS: list[dict[str, Any]] = [
    {"distance": None, "pieces": 3, "carrier": "never seen", "express": True, "ordered": "2026-03-01T23:59:00+02:00"},
    {"distance": 5, "pieces": None, "carrier": None, "express": None, "ordered": None},
    {"distance": 1e300, "pieces": -1, "carrier": "swift", "express": False, "ordered": "2026-03-02T00:00:00Z"},
]


def package(task: str = "binary") -> Model:
    """Return a package of a kind, fitted on a few rows."""
    encoding = fit_encoding(ROWS, tuple(ROWS.columns))
    matrix = encode(encoding, ROWS)
    classes = {"binary": ("no", "yes"), "regression": (), "tree": ("no", "yes")}.get(task, ("few", "many", "some"))
    signature = Signature(inputs=encoding.inputs, task="classification" if classes else "regression", classes=classes)
    manifest = Manifest(name="late", flavor="sklearn" if task == "tree" else "lightgbm", signature=signature)
    if task == "tree":
        return make_portable(
            sklearn.pack(manifest, DecisionTreeClassifier(max_depth=4).fit(np.nan_to_num(matrix), LABEL), encoding)
        )
    target = {"binary": LABEL, "regression": matrix[:, 1] * 1.5}.get(task, ROWS["pieces"].to_numpy() % 3)
    fitted = fit_lightgbm(
        matrix,
        target,
        task=signature.task,
        classes=len(classes),
        policy=Training(rounds=8),
        names=encoding.names,
        categorical=encoding.categorical,
    )
    return make_portable(lightgbm.pack(manifest, fitted, encoding))


def write(model: Model, folder: Path) -> Path:
    for name, content in to_files(model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def expected(model: Model, rows: pl.DataFrame) -> Any:
    predictions = load(model).predict(rows)
    return predictions.values if predictions.probabilities is None else predictions.probabilities


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "tree"])
def test_the_portable_loader_predicts_as_tidemill_does(tmp_path: Path, task: str) -> None:
    model = package(task)
    loaded = PortableModel(write(model, tmp_path / "package"))
    rows = ROWS if task != "tree" else ROWS.drop_nulls()
    assert np.array_equal(loaded.scores(rows.to_dict(as_series=False)), expected(model, rows))
    if task != "tree":
        edge_rows = pl.DataFrame(EDGE_ROWS).with_columns(pl.col("ordered").str.to_datetime(time_zone="UTC"))
        columns = {name: [row[name] for row in EDGE_ROWS] for name in EDGE_ROWS[0]}
        assert np.array_equal(loaded.scores(columns), expected(model, edge_rows))
    assert loaded.scores({name: [] for name in ROWS.columns}).shape[0] == 0


def test_the_lock_has_all_dependencies_and_only_published_packages() -> None:
    lock = to_files(package())["requirements.txt"].decode().split()
    names = [line.partition("==")[0] for line in lock]
    assert {"lightgbm", "numpy", "scipy"} <= set(names)
    assert not {"tidemill", "polars"} & set(names)
    assert all(line.count("==") == 1 for line in lock)


def test_export_writes_a_complete_folder_and_never_overwrites(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop"))
    tidemill(tmp_path / "shop", "run", "training")
    result = tidemill(tmp_path / "shop", "models", "export", "shop", "--to", "out/shop")
    assert result.stdout.startswith("shop/1: ")
    folder = tmp_path / "shop" / "out" / "shop"
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {"MLmodel", "manifest.json", "requirements.txt", "python_env.yaml", "samples.json", "model.txt"} <= names
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["metrics"]["test_log_loss"] > 0
    assert manifest["data"]["table"] == "rows"
    assert [entry.name for entry in (tmp_path / "shop" / "out").iterdir()] == ["shop"]
    again = tidemill(tmp_path / "shop", "models", "export", "shop", "--to", "out/shop", code=2)
    assert "exists and is not empty" in again.stderr
    wrong = tidemill(tmp_path / "shop", "models", "export", "shop", "--to", "x", "--format", "onnx", code=2)
    assert "has the flavor lightgbm, not onnx" in wrong.stderr
    assert session.workspace.ledger.releases.find()


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Create an environment with only MLflow and the packages of the lock; yield its Python."""
    folder = tmp_path_factory.mktemp("mlflow") / "environment"
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = folder / "bin" / "python"
    lock = to_files(package())["requirements.txt"].decode().split()
    try:
        create: list[str | Path] = [uv, "venv", "--python", sys.executable, folder]
        install: list[str | Path] = [uv, "pip", "install", "--python", python, "mlflow", *lock]
        for command in (create, install):
            subprocess.run(command, check=True, capture_output=True)
        yield python
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"uv cannot install an environment with MLflow: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SCRIPT = """
import json, sys, mlflow.pyfunc, pandas
rows = pandas.DataFrame(json.load(open(sys.argv[1])))
rows["ordered"] = pandas.to_datetime(rows["ordered"])
models = [mlflow.pyfunc.load_model(folder) for folder in sys.argv[2:]]
assert "tidemill" not in sys.modules
print(json.dumps([model.predict(rows).to_dict("list") for model in models]))
"""


def test_plain_mlflow_predicts_the_same(tmp_path: Path, mlflow: Path) -> None:
    models = [package(task) for task in ("binary", "multiclass", "regression")]
    folders = [write(model, tmp_path / f"package{index}") for index, model in enumerate(models)]
    rows = ROWS.with_columns(pl.col("ordered").dt.replace_time_zone(None))
    (tmp_path / "rows.json").write_text(json.dumps(rows.with_columns(pl.col("ordered").cast(pl.String)).to_dicts()))
    process = subprocess.run(
        [mlflow, "-I", "-c", SCRIPT, tmp_path / "rows.json", *folders],
        capture_output=True,
        text=True,
        check=False,
        env={"MLFLOW_TRACKING_URI": f"file:{tmp_path}/runs", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert process.returncode == 0, process.stderr
    for model, output in zip(models, json.loads(process.stdout.splitlines()[-1]), strict=True):
        predictions = load(model).predict(rows)
        assert output["prediction"] == predictions.values
        if predictions.probabilities is not None:
            probabilities = [output[f"probability_{name}"] for name in model.manifest.signature.classes]
            assert np.array_equal(np.array(probabilities).T, predictions.probabilities)
