"""An adopted model predicts as it did in the notebook, and is never unpickled during adoption."""

import io
import os
import pickle
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tidemill.blobs.codecs import ModelCodec
from tidemill.core.model import Model
from tidemill.errors import DataError, InputError, MissingExtra
from tidemill.models.adopt import adopt
from tidemill.models.inputs import load_samples
from tidemill.models.load import load

RANDOM = np.random.default_rng(7)
ROWS = 300
NUMBERS = pl.DataFrame({name: RANDOM.normal(size=ROWS) for name in ("wind", "distance", "delay")})
MIXED = NUMBERS.with_columns(
    carrier=pl.Series([("AA", "UA", None, "DL")[row % 4] for row in range(ROWS)]),
    hour=pl.Series([row % 24 for row in range(ROWS)]),
)
LATE = (NUMBERS["delay"] + NUMBERS["wind"] * 0.5 > 0).cast(pl.Int64).alias("late")
WORDS = LATE.replace_strict({0: "on time", 1: "late"}).alias("outcome")
LABELS = {"binary": LATE, "multiclass": pl.Series([row % 3 for row in range(ROWS)])}


def write_and_read(model: Model) -> Model:
    """Return the package after it was written and read."""
    return ModelCodec().read(io.BytesIO(to_bytes(model)), Model)


def to_bytes(model: Model) -> bytes:
    """Return the bytes of a package."""
    sink = io.BytesIO()
    ModelCodec().write(model, sink)
    return sink.getvalue()


def train_booster(objective: str, frame: pl.DataFrame = NUMBERS, label: pl.Series | None = None) -> Any:
    target = (NUMBERS["delay"] if label is None else label).to_numpy()
    parameters = {"objective": objective, "verbose": -1, "num_class": 3 if objective == "multiclass" else 1}
    data = lightgbm.Dataset(frame.to_numpy(), target, feature_name=frame.columns)
    return lightgbm.train(parameters, data, 8)


def save(model: Any, path: Path) -> Path:
    """Write a model in the format that its suffix names."""
    if path.suffix == ".txt":
        model.save_model(path)
    elif path.suffix == ".onnx":
        path.write_bytes(model.SerializeToString())
    else:
        joblib.dump(model, path)
    return path


NUMERIC_BOOSTER = train_booster("regression")


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The package of `NUMERIC_BOOSTER`."""
    return adopt(save(NUMERIC_BOOSTER, tmp_path_factory.mktemp("m") / "m.txt"), NUMBERS, name="delay")


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression"])
def test_lightgbm_text_predicts_exactly_the_same(objective: str, tmp_path: Path) -> None:
    fitted = train_booster(objective, label=LABELS.get(objective))
    # The order of the sample columns does not matter: the model keeps the order of the booster.
    model = adopt(save(fitted, tmp_path / "m.txt"), NUMBERS.select("delay", "wind", "distance"), name="late")
    assert model.manifest.flavor == "lightgbm-raw"
    assert [column.name for column in model.manifest.signature.inputs] == NUMBERS.columns
    predicted = fitted.predict(NUMBERS.to_numpy())
    predictions = load(write_and_read(model)).predict(NUMBERS.select("distance", "delay", "wind"))
    if objective == "regression":
        assert predictions.values == predicted.tolist()
        return
    assert model.manifest.signature.classes == (("0", "1") if objective == "binary" else ("0", "1", "2"))
    assert predictions.probabilities is not None
    table = predictions.probabilities if objective == "multiclass" else predictions.probabilities[:, 1]
    assert np.array_equal(table, predicted)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(*[st.none() | st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=20))
def test_lightgbm_text_accepts_any_numbers_and_missing_values(
    adopted: Model, rows: list[tuple[float | None, ...]]
) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(NUMBERS.columns, pl.Float64), orient="row")
    predictions = load(adopted).predict(frame)
    assert predictions.values == NUMERIC_BOOSTER.predict(frame.fill_null(np.nan).to_numpy()).tolist()


def test_lightgbm_text_keeps_the_codes_of_pandas_categories(tmp_path: Path) -> None:
    frame = MIXED.select("carrier", "wind").to_pandas().astype({"carrier": "category"})
    fitted = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1).fit(frame, LATE.to_numpy())
    path = save(fitted.booster_, tmp_path / "m.txt")
    rows = MIXED.select("carrier", "wind", WORDS)
    model = adopt(path, rows, name="late", classes=("on time", "late"), label="outcome")
    predictions = load(model).predict(rows)
    assert predictions.probabilities is not None
    assert np.array_equal(predictions.probabilities, fitted.predict_proba(frame))
    unseen = load(model).predict(pl.DataFrame({"carrier": ["??"], "wind": [0.1]}))
    missing = load(model).predict(pl.DataFrame({"carrier": [None], "wind": [0.1]}))
    assert unseen.values == missing.values


def test_lightgbm_columns_with_spaces_match_their_features(tmp_path: Path) -> None:
    frame = NUMBERS.rename({"wind": "wind speed"})
    model = adopt(save(train_booster("regression", frame), tmp_path / "m.txt"), frame, name="late")
    assert model.manifest.signature.inputs[0].name == "wind speed"


@pytest.mark.parametrize("compress", [0, 3, ("xz", 3), ("bz2", 3)])
def test_a_joblib_pipeline_predicts_the_same(compress: Any, tmp_path: Path) -> None:
    prepare = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["carrier"]), remainder="passthrough"
    )
    fitted = make_pipeline(prepare, RandomForestClassifier(10, random_state=1)).fit(MIXED.to_pandas(), WORDS.to_list())
    path = tmp_path / "notebook.pkl"
    joblib.dump(fitted, path, compress=compress)
    model = adopt(path, MIXED.with_columns(WORDS), name="late", label="outcome", trusted=True)
    assert (model.manifest.flavor, model.manifest.signature.task) == ("joblib", "classification")
    assert model.manifest.signature.classes == ("late", "on time")
    assert model.manifest.environment["scikit-learn"]
    evidence = model.manifest.data["adopted"]
    assert evidence["complete"]
    assert "sklearn.ensemble._forest.RandomForestClassifier" in evidence["imports"]
    predictions = load(write_and_read(model)).predict(MIXED)
    assert predictions.values == fitted.predict(MIXED.to_pandas()).tolist()
    assert predictions.probabilities is not None
    assert np.array_equal(predictions.probabilities, fitted.predict_proba(MIXED.to_pandas()))


def test_an_estimator_fitted_on_an_array_predicts_the_same(tmp_path: Path) -> None:
    fitted = LinearRegression().fit(NUMBERS.to_numpy(), NUMBERS["delay"].to_numpy())
    model = adopt(save(fitted, tmp_path / "m.joblib"), NUMBERS, name="delay", task="regression", trusted=True)
    assert np.allclose(load(model).predict(NUMBERS).values, fitted.predict(NUMBERS.to_numpy()), atol=0)


def test_a_joblib_lightgbm_wrapper_keeps_its_categories(tmp_path: Path) -> None:
    frame = MIXED.select("carrier", "wind").to_pandas().astype({"carrier": "category"})
    fitted = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1).fit(frame, LATE.to_numpy())
    rows = MIXED.select("carrier", "wind", LATE)
    model = adopt(
        save(fitted, tmp_path / "m.joblib"), rows, name="late", label="late", task="classification", trusted=True
    )
    predictions = load(model).predict(rows)
    assert predictions.probabilities is not None
    assert np.array_equal(predictions.probabilities, fitted.predict_proba(frame))


@pytest.mark.parametrize("zipmap", [True, False])
def test_an_onnx_classifier_predicts_the_same(zipmap: bool, tmp_path: Path) -> None:
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(NUMBERS.to_numpy(), WORDS.to_numpy())
    graph = to_onnx(fitted, NUMBERS.to_numpy()[:1].astype(np.float32), options={"zipmap": zipmap})
    rows = NUMBERS.with_columns(WORDS)
    model = adopt(save(graph, tmp_path / "m.onnx"), rows, name="late", label="outcome")
    assert (model.manifest.flavor, model.manifest.signature.classes) == ("onnx", ("late", "on time"))
    predictions = load(write_and_read(model)).predict(NUMBERS)
    assert predictions.probabilities is not None
    assert np.allclose(predictions.probabilities, fitted.predict_proba(NUMBERS.to_numpy()), atol=1e-5)
    assert np.mean(np.array(predictions.values) == fitted.predict(NUMBERS.to_numpy())) > 0.99


def test_an_onnx_graph_with_an_input_for_each_column(tmp_path: Path) -> None:
    frame = MIXED.select("carrier", "wind", "hour").drop_nulls()
    prepare = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    fitted = make_pipeline(prepare, LinearRegression()).fit(frame.to_pandas(), frame["wind"].to_numpy())
    graph = to_onnx(fitted, frame.to_pandas()[:1].astype({"wind": np.float32, "carrier": object}))
    model = adopt(save(graph, tmp_path / "m.onnx"), frame.select("hour", "carrier", "wind"), name="delay")
    assert model.manifest.signature.task == "regression"
    assert np.allclose(load(model).predict(frame).values, fitted.predict(frame.to_pandas()), atol=1e-4)
    with pytest.raises(DataError, match="'carrier' has missing values"):
        load(model).predict(MIXED)


def test_onnx_classes_in_the_wrong_order_are_rejected(tmp_path: Path) -> None:
    fitted = LogisticRegression().fit(NUMBERS.to_numpy(), WORDS.to_numpy())
    graph = to_onnx(fitted, NUMBERS.to_numpy()[:1].astype(np.float32), options={"zipmap": False})
    with pytest.raises(InputError, match="not in the order"):
        adopt(save(graph, tmp_path / "m.onnx"), NUMBERS, name="late", classes=("on time", "late"))


class Trap:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("dump", [joblib.dump, lambda model, path: path.write_bytes(pickle.dumps(model))])
def test_adoption_never_loads_a_pickle(dump: Any, tmp_path: Path) -> None:
    path, created = tmp_path / "m.joblib", tmp_path / "created"
    dump([np.arange(1000), np.array(["a", None], dtype=object), Trap(created)], path)
    model = adopt(path, NUMBERS, name="trap", task="regression")
    assert "posix.mkdir" in model.manifest.data["adopted"]["imports"]
    with pytest.raises(InputError, match="--trust"):
        load(write_and_read(model))
    assert not created.exists()
    # The trap works: loading the package as trusted creates the folder.
    with pytest.raises(DataError):
        load(adopt(path, NUMBERS, name="trap", task="regression", trusted=True))
    assert created.exists()


def test_a_pickle_with_a_wrong_array_size_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    joblib.dump({"weights": np.arange(1000.0)}, path)
    path.write_bytes(path.read_bytes()[:500])
    model = adopt(path, NUMBERS, name="cut", task="regression", trusted=True)
    assert not model.manifest.data["adopted"]["complete"]
    with pytest.raises(DataError, match="cannot be unpickled"):
        load(model)


def test_samples_are_kept_and_fit_the_signature(tmp_path: Path) -> None:
    model = adopt(
        save(LinearRegression().fit(NUMBERS.to_numpy(), LATE.to_numpy()), tmp_path / "m"),
        MIXED.with_columns(LATE),
        name="late",
        label="late",
        task="regression",
    )
    assert load_samples(write_and_read(model)).equals(MIXED.head(100))
    assert model.manifest.features is not None
    assert model.manifest.features.request == tuple(MIXED.columns)


def test_samples_of_every_type_are_kept(tmp_path: Path) -> None:
    start = datetime(2013, 1, 31, 12, tzinfo=UTC)
    rows = pl.DataFrame(
        {"at": [start, None], "day": [start.date(), None], "yes": [True, None], "n": [1, None], "x": [0.5, None]}
    )
    path = save(LinearRegression().fit([[1.0]], [1.0]), tmp_path / "m")
    model = adopt(path, rows, name="late", task="regression")
    assert [column.type for column in model.manifest.signature.inputs] == [
        "time",
        "date",
        "boolean",
        "number",
        "number",
    ]
    assert load_samples(write_and_read(model)).equals(rows.cast({"n": pl.Float64}))


def test_a_missing_onnx_runtime_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(to_onnx(LinearRegression().fit([[1.0]], [1.0]), np.zeros((1, 1), np.float32)), tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"tidemill\[onnx\]"):
        adopt(path, NUMBERS.select("wind"), name="late")


def test_without_pandas_the_estimator_gets_a_polars_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = LinearRegression().fit(NUMBERS.to_pandas(), LATE.to_numpy())
    rows = NUMBERS.select("delay", "wind", "distance")
    model = adopt(save(fitted, tmp_path / "m.joblib"), rows, name="late", task="regression", trusted=True)
    monkeypatch.setattr("tidemill.models.flavors.joblib.has_pandas", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = load(model).predict(rows).values
    assert predictions == fitted.predict(NUMBERS.to_pandas()).tolist()


def test_whole_numbers_in_the_samples_do_not_cut_later_fractions(tmp_path: Path) -> None:
    fitted = LinearRegression().fit([[1.0], [3.0]], [1.0, 3.0])
    rows = pl.DataFrame({"price": [1, 2]})
    model = adopt(save(fitted, tmp_path / "m"), rows, name="price", task="regression", trusted=True)
    assert load(model).predict(pl.DataFrame({"price": [2.5]})).values == pytest.approx([2.5])


@pytest.mark.parametrize("sent", [["many"], [[1.0]]])
def test_a_value_of_another_type_is_rejected(sent: list[Any], adopted: Model) -> None:
    with pytest.raises(DataError, match="column 'wind' should be of type number"):
        load(adopted).predict(NUMBERS.head(1).with_columns(pl.Series("wind", sent)))


def test_equal_files_result_in_equal_packages(tmp_path: Path) -> None:
    path = save(train_booster("binary", label=LATE), tmp_path / "m.txt")
    assert to_bytes(adopt(path, NUMBERS, name="a")) == to_bytes(adopt(path, NUMBERS, name="a"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.joblib", b"", "is unknown"),
        ("m.onnx", b"\x08\x07\x12\x05hello", "ONNX Runtime cannot read"),
        ("m.txt", b"tree\nversion=v4\nnum_class=1\n", "incomplete"),
        ("m.zip", b"PK\x03\x04", "zip file"),
        ("m.csv", b"a,b\n1,2\n", "is unknown"),
    ],
)
def test_files_without_a_model_are_rejected(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        adopt(path, NUMBERS, name="late")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no model at"):
        adopt(tmp_path / "nothing", NUMBERS, name="late")
    with pytest.raises(DataError, match="without an MLmodel"):
        adopt(tmp_path, NUMBERS, name="late")


def test_a_truncated_lightgbm_file_is_rejected(tmp_path: Path) -> None:
    path = save(NUMERIC_BOOSTER, tmp_path / "m.txt")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match="truncated"):
        adopt(path, NUMBERS, name="late")


def test_the_error_for_wrong_samples_names_the_columns(tmp_path: Path) -> None:
    path = save(NUMERIC_BOOSTER, tmp_path / "m.txt")
    with pytest.raises(DataError, match=r"do not have its features wind.*no features gust"):
        adopt(path, NUMBERS.rename({"wind": "gust"}), name="late")
    with pytest.raises(DataError, match="'wind' of the sample rows is text"):
        adopt(path, NUMBERS.with_columns(pl.lit("calm").alias("wind")), name="late")
    with pytest.raises(DataError, match="no sample rows"):
        adopt(path, NUMBERS.clear(), name="late")


def test_an_estimator_with_other_columns_is_rejected_when_loaded(tmp_path: Path) -> None:
    fitted = LinearRegression().fit(NUMBERS.to_pandas(), LATE.to_numpy())
    rows = NUMBERS.rename({"wind": "gust"})
    model = adopt(save(fitted, tmp_path / "m.joblib"), rows, name="late", task="regression", trusted=True)
    with pytest.raises(DataError, match=r"missing wind; not among its features gust"):
        load(model)


def test_an_unknown_task_is_an_error(tmp_path: Path) -> None:
    path = save(LogisticRegression().fit(NUMBERS.to_numpy(), LATE.to_numpy()), tmp_path / "m.joblib")
    with pytest.raises(InputError, match="does not contain its task"):
        adopt(path, NUMBERS, name="late")
    with pytest.raises(InputError, match="classes of the model are unknown"):
        adopt(path, NUMBERS, name="late", task="classification")
    wrong = adopt(path, NUMBERS, name="late", classes=("no", "yes"), trusted=True)
    with pytest.raises(DataError, match="was fitted on the classes 0, 1"):
        load(wrong)
    with pytest.raises(DataError, match="has classes"):
        load(adopt(path, NUMBERS, name="late", task="regression", trusted=True))


def test_arguments_must_not_contradict_the_file(tmp_path: Path) -> None:
    path = save(train_booster("binary", label=LATE), tmp_path / "m.txt")
    with pytest.raises(InputError, match="is classification, not regression"):
        adopt(path, NUMBERS, name="late", task="regression")
    with pytest.raises(InputError, match="has 2 classes"):
        adopt(path, NUMBERS, name="late", classes=("a", "b", "c"))


def test_the_error_for_a_classifier_without_probabilities_has_a_cure(tmp_path: Path) -> None:
    fitted = RidgeClassifier().fit(NUMBERS.to_numpy(), LATE.to_numpy())
    model = adopt(save(fitted, tmp_path / "m.joblib"), NUMBERS, name="late", classes=("0", "1"), trusted=True)
    with pytest.raises(DataError, match="CalibratedClassifierCV"):
        load(model)


def test_a_class_defined_in_a_notebook_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x04c__main__\nMine\n)\x81.")
    with pytest.raises(DataError, match=r"__main__\.Mine"):
        adopt(path, NUMBERS, name="late", task="regression")
