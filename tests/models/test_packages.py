"""Packages of Tidemill runs: they predict as the estimator did, and list the versions that created them."""

import io
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression

from tidemill.blobs.codecs import ModelCodec
from tidemill.core.model import Manifest, Model, Signature
from tidemill.data.encoding import encode, fit_encoding
from tidemill.errors import DataError
from tidemill.models.environment import VersionDifference, compare_versions, list_versions
from tidemill.models.flavors import lightgbm as lightgbm_flavor
from tidemill.models.flavors import sklearn as sklearn_flavor
from tidemill.models.load import load
from tidemill.models.package import read_sources

RANDOM = np.random.default_rng(5)
FRAME = pl.DataFrame({"wind": RANDOM.normal(size=300), "carrier": [["AA", "UA", "DL"][row % 3] for row in range(300)]})
CLASS_INDICES = (FRAME["wind"] > 0).cast(pl.Int64).to_numpy()
ENCODING = fit_encoding(FRAME, ("wind", "carrier"))
MATRIX = encode(ENCODING, FRAME)


def manifest(flavor: str, *classes: str) -> Manifest:
    task = "classification" if classes else "regression"
    signature = Signature(inputs=ENCODING.inputs, task=task, classes=classes)  # type: ignore[arg-type]
    return Manifest(name="late", flavor=flavor, signature=signature)


def test_a_scikit_learn_classifier_predicts_the_same_after_writing_and_reading() -> None:
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(MATRIX, CLASS_INDICES)
    model = sklearn_flavor.pack(manifest("sklearn", "on time", "late"), estimator, ENCODING)
    sink = io.BytesIO()
    ModelCodec().write(model, sink)
    predictions = load(ModelCodec().read(io.BytesIO(sink.getvalue()), Model)).predict(FRAME)
    assert predictions.probabilities is not None
    assert np.array_equal(predictions.probabilities, estimator.predict_proba(MATRIX))
    assert predictions.values == [("on time", "late")[index] for index in estimator.predict(MATRIX)]
    assert model.manifest.environment["scikit-learn"] == list_versions("scikit-learn")["scikit-learn"]


def test_a_class_without_training_rows_has_probability_zero() -> None:
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(MATRIX, CLASS_INDICES * 2)
    predictions = load(sklearn_flavor.pack(manifest("sklearn", "a", "b", "c"), estimator, ENCODING)).predict(FRAME)
    assert predictions.probabilities is not None
    assert predictions.probabilities[:, 1].max() == 0
    assert set(predictions.values) == {"a", "c"}


def test_a_class_that_is_not_in_the_signature_is_rejected() -> None:
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(MATRIX, CLASS_INDICES + 1)
    with pytest.raises(DataError, match="classes that its signature does not have"):
        load(sklearn_flavor.pack(manifest("sklearn", "a", "b"), estimator, ENCODING))


def test_a_regression_reports_why_it_cannot_predict() -> None:
    estimator = LinearRegression().fit(MATRIX, MATRIX[:, 0])
    predictor = load(sklearn_flavor.pack(manifest("sklearn"), estimator, ENCODING))
    assert predictor.predict(FRAME).values == estimator.predict(MATRIX).tolist()
    with pytest.raises(DataError, match="NaN"):
        predictor.predict(FRAME.with_columns(pl.lit(None, pl.Float64).alias("wind")))


def test_a_lightgbm_package_lists_its_environment() -> None:
    booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(MATRIX, MATRIX[:, 0]), 3)
    model = lightgbm_flavor.pack(manifest("lightgbm"), booster, ENCODING)
    assert model.manifest.environment == list_versions("lightgbm", "numpy")
    assert load(model).predict(FRAME).values == np.asarray(booster.predict(MATRIX)).tolist()


def test_environments_are_compared_by_package_and_by_minor_version_of_python() -> None:
    here = list_versions("numpy", "nowhere")
    assert set(here) == {"python", "numpy"}
    assert compare_versions(here) == []
    major, minor, _ = here["python"].split(".")
    assert compare_versions({"python": f"{major}.{minor}.99"}) == []
    assert compare_versions({"python": "2.7.18", "numpy": "1.0"}) == [
        VersionDifference("python", "2.7.18", here["python"]),
        VersionDifference("numpy", "1.0", here["numpy"]),
    ]


def test_a_package_without_init_in_two_folders_is_packaged_from_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, file in (("first", "a.py"), ("first", "both.py"), ("second", "b.py"), ("second", "both.py")):
        (tmp_path / folder / "spread").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "spread" / file).write_text(f"WHERE = {folder!r}\n")
    monkeypatch.syspath_prepend(tmp_path / "second")
    monkeypatch.syspath_prepend(tmp_path / "first")
    files = read_sources("spread")
    assert sorted(files) == ["code/spread/a.py", "code/spread/b.py", "code/spread/both.py"]
    assert files["code/spread/both.py"] == b"WHERE = 'first'\n"
