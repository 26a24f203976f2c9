"""A model directory as MLflow saves it is registered and predicts without MLflow."""

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import polars as pl
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from tidemill.errors import DataError, InputError
from tidemill.models.adopt import adopt
from tidemill.models.flavors import mlflow
from tidemill.models.load import load

RANDOM = np.random.default_rng(3)
ROWS = pl.DataFrame({name: RANDOM.normal(size=200) for name in ("wind speed", "distance", "delay of the airport")})
LATE = (ROWS["distance"] > 0).cast(pl.Int64).alias("late")

# The format of MLflow 2: sorted keys, long texts folded at 80 columns, lists at the indentation of their key.
TAIL = """\
mlflow_version: 2.19.0
model_size_bytes: 5231
model_uuid: 0d4a3c2e9b1f4f6f8a3f0a9e5c3f7d21
resources:
- name: a resource
  type: 'function'
run_id: 3f1f0d7a6a9d4c2b8d6e5f4a3b2c1d0e
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  type: dataframe
signature:
  inputs: '[{"type": "double", "name": "wind speed", "required": true}, {"type": "double",
    "name": "distance", "required": true}, {"type": "double", "name": "delay of the
    airport", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
  params: null
utc_time_created: '2025-02-11 09:13:37.551234'
"""
LIGHTGBM = """\
artifact_path: model
flavors:
  lightgbm:
    code: null
    data: model.lgb
    lgb_version: 4.1.0
    model_class: lightgbm.basic.Booster
  python_function:
    data: model.lgb
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.lightgbm
    python_version: 3.10.12
"""
SKLEARN = """\
artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.5
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.5.1
"""


def write_directory(path: Path, description: str) -> Path:
    path.mkdir()
    (path / "MLmodel").write_text(description + TAIL)
    (path / "conda.yaml").write_text("channels:\n- conda-forge\n")
    (path / "requirements.txt").write_text("mlflow==2.19.0\n")
    return path


def train_booster() -> Any:
    data = lightgbm.Dataset(ROWS.to_numpy(), LATE.to_numpy())
    return lightgbm.train({"objective": "binary", "verbose": -1}, data, 5)


def test_a_lightgbm_model_predicts_exactly_the_same(tmp_path: Path) -> None:
    fitted = train_booster()
    path = write_directory(tmp_path / "model", LIGHTGBM)
    fitted.save_model(path / "model.lgb")
    # The booster was trained on an array: only the signature of MLflow has the order of the columns.
    model = adopt(path, ROWS.select(sorted(ROWS.columns)), name="late")
    assert model.manifest.flavor == "mlflow"
    assert model.manifest.trusted
    assert "mlflow/requirements.txt" in model.files
    assert model.manifest.environment["lightgbm"] == "4.1.0"
    predictions = load(model).predict(ROWS)
    assert predictions.probabilities is not None
    assert np.array_equal(predictions.probabilities[:, 1], fitted.predict(ROWS.to_numpy()))


def test_a_sklearn_model_must_be_trusted(tmp_path: Path) -> None:
    fitted = LogisticRegression().fit(ROWS.to_pandas(), LATE.to_numpy())
    path = write_directory(tmp_path / "model", SKLEARN)
    joblib.dump(fitted, path / "model.pkl")
    rows = ROWS.with_columns(LATE)
    with pytest.raises(InputError, match="--trust"):
        load(adopt(path, rows, name="late", label="late", task="classification"))
    model = adopt(path, rows, name="late", label="late", task="classification", trusted=True)
    assert model.manifest.environment["scikit-learn"] == "1.5.1"
    assert "sklearn.linear_model._logistic.LogisticRegression" in model.manifest.data["adopted"]["imports"]
    predictions = load(model).predict(rows)
    assert predictions.probabilities is not None
    assert np.array_equal(predictions.probabilities, fitted.predict_proba(ROWS.to_pandas()))


def test_version_differences_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_directory(tmp_path / "model", LIGHTGBM)
    train_booster().save_model(path / "model.lgb")
    load(adopt(path, ROWS, name="late"))
    assert "lightgbm 4.1.0 (installed:" in caplog.text


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("flavors:\n  xgboost:\n    data: m.xgb\n  python_function:\n    loader_module: mlflow.xgboost\n", "xgboost"),
        ("flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n", "pyfunc"),
        (LIGHTGBM.replace("data: model.lgb", "data: ../../outside"), "no file '../../outside'"),
        ("not a mapping:\n", "the flavors none"),
        ("flavors:\n  sklearn:\n", "the flavors sklearn"),
        ("flavors: [sklearn\n", "no MLmodel file that can be read"),
        ("flavors: !!python/object/apply:os.system ['true']\n", "no MLmodel file that can be read"),
    ],
)
def test_the_error_for_an_unsupported_directory_has_the_reason(description: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        adopt(write_directory(tmp_path / "model", description), ROWS, name="late")


def test_an_unreadable_signature_is_an_error(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "model", LIGHTGBM)
    train_booster().save_model(path / "model.lgb")
    (path / "MLmodel").write_text(LIGHTGBM + "signature:\n  inputs: '[{'\n")
    with pytest.raises(DataError, match="signature in the MLmodel file cannot be read"):
        adopt(path, ROWS, name="late")


def test_a_link_to_a_file_outside_the_directory_is_not_followed(tmp_path: Path) -> None:
    train_booster().save_model(tmp_path / "outside.lgb")
    path = write_directory(tmp_path / "model", LIGHTGBM)
    (path / "model.lgb").symlink_to(tmp_path / "outside.lgb")
    with pytest.raises(DataError, match=r"no file 'model\.lgb'"):
        adopt(path, ROWS, name="late")


@pytest.mark.parametrize("flow", [False, True], ids=["as MLflow writes it", "in another style"])
def test_the_description_is_read_in_any_style_of_yaml(flow: bool) -> None:
    text = SKLEARN + TAIL
    if flow:
        text = yaml.safe_dump(yaml.safe_load(text), default_flow_style=True, width=60, explicit_start=True)
    files = {"mlflow/MLmodel": text.encode(), "mlflow/model.pkl": b"pickle"}
    assert mlflow.read_model_file(files) == b"pickle"
    assert mlflow.read_input_names(files) == ("wind speed", "distance", "delay of the airport")
    assert mlflow.read_versions(files) == {"python": "3.11.5", "scikit-learn": "1.5.1"}
