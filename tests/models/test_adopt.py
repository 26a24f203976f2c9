"""A model made in a notebook is taken in, answers as it did there, and is never unpickled on the way."""

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
from tidemill.models.inputs import samples
from tidemill.models.load import load

RANDOM = np.random.default_rng(7)
ROWS = 300
NUMBERS = pl.DataFrame({name: RANDOM.normal(size=ROWS) for name in ("wind", "distance", "delay")})
MIXED = NUMBERS.with_columns(
    carrier=pl.Series([("AA", "UA", None, "DL")[place % 4] for place in range(ROWS)]),
    hour=pl.Series([place % 24 for place in range(ROWS)]),
)
LATE = (NUMBERS["delay"] + NUMBERS["wind"] * 0.5 > 0).cast(pl.Int64).alias("late")
WORDS = LATE.replace_strict({0: "on time", 1: "late"}).alias("outcome")
LABELS = {"binary": LATE, "multiclass": pl.Series([place % 3 for place in range(ROWS)])}


def through_bytes(model: Model) -> Model:
    """The package as a registry would give it back."""
    return ModelCodec().read(io.BytesIO(packed(model)), Model)


def packed(model: Model) -> bytes:
    """The bytes of a package."""
    sink = io.BytesIO()
    ModelCodec().write(model, sink)
    return sink.getvalue()


def booster(objective: str, frame: pl.DataFrame = NUMBERS, label: pl.Series | None = None) -> Any:
    target = (NUMBERS["delay"] if label is None else label).to_numpy()
    parameters = {"objective": objective, "verbose": -1, "num_class": 3 if objective == "multiclass" else 1}
    data = lightgbm.Dataset(frame.to_numpy(), target, feature_name=frame.columns)
    return lightgbm.train(parameters, data, 8)


def saved(made: Any, path: Path) -> Path:
    """Write a model in the format that its suffix names."""
    if path.suffix == ".txt":
        made.save_model(path)
    elif path.suffix == ".onnx":
        path.write_bytes(made.SerializeToString())
    else:
        joblib.dump(made, path)
    return path


NUMERIC_BOOSTER = booster("regression")


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The package of `NUMERIC_BOOSTER`."""
    return adopt(saved(NUMERIC_BOOSTER, tmp_path_factory.mktemp("m") / "m.txt"), NUMBERS, name="delay")


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression"])
def test_lightgbm_text_answers_bit_for_bit(objective: str, tmp_path: Path) -> None:
    made = booster(objective, label=LABELS.get(objective))
    # The samples' columns may come in any order: the booster's own counts.
    model = adopt(saved(made, tmp_path / "m.txt"), NUMBERS.select("delay", "wind", "distance"), name="late")
    assert model.manifest.flavor == "lightgbm-raw"
    assert [each.name for each in model.manifest.signature.inputs] == NUMBERS.columns
    predicted = made.predict(NUMBERS.to_numpy())
    said = load(through_bytes(model)).predict(NUMBERS.select("distance", "delay", "wind"))
    if objective == "regression":
        assert said.values == predicted.tolist()
        return
    assert model.manifest.signature.classes == (("0", "1") if objective == "binary" else ("0", "1", "2"))
    assert said.probabilities is not None
    table = said.probabilities if objective == "multiclass" else said.probabilities[:, 1]
    assert np.array_equal(table, predicted)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(*[st.none() | st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=20))
def test_lightgbm_text_takes_any_numbers_and_gaps(adopted: Model, rows: list[tuple[float | None, ...]]) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(NUMBERS.columns, pl.Float64), orient="row")
    said = load(adopted).predict(frame)
    assert said.values == NUMERIC_BOOSTER.predict(frame.fill_null(np.nan).to_numpy()).tolist()


def test_lightgbm_text_keeps_the_codes_of_pandas_categories(tmp_path: Path) -> None:
    frame = MIXED.select("carrier", "wind").to_pandas().astype({"carrier": "category"})
    made = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1).fit(frame, LATE.to_numpy())
    path = saved(made.booster_, tmp_path / "m.txt")
    rows = MIXED.select("carrier", "wind", WORDS)
    model = adopt(path, rows, name="late", classes=("on time", "late"), label="outcome")
    said = load(model).predict(rows)
    assert said.probabilities is not None
    assert np.array_equal(said.probabilities, made.predict_proba(frame))
    unseen = load(model).predict(pl.DataFrame({"carrier": ["??"], "wind": [0.1]}))
    missing = load(model).predict(pl.DataFrame({"carrier": [None], "wind": [0.1]}))
    assert unseen.values == missing.values


def test_lightgbm_columns_with_spaces_are_found(tmp_path: Path) -> None:
    frame = NUMBERS.rename({"wind": "wind speed"})
    model = adopt(saved(booster("regression", frame), tmp_path / "m.txt"), frame, name="late")
    assert model.manifest.signature.inputs[0].name == "wind speed"


@pytest.mark.parametrize("compress", [0, 3, ("xz", 3), ("bz2", 3)])
def test_a_pipeline_by_joblib_answers_the_same(compress: Any, tmp_path: Path) -> None:
    prepare = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["carrier"]), remainder="passthrough"
    )
    made = make_pipeline(prepare, RandomForestClassifier(10, random_state=1)).fit(MIXED.to_pandas(), WORDS.to_list())
    path = tmp_path / "notebook.pkl"
    joblib.dump(made, path, compress=compress)
    model = adopt(path, MIXED.with_columns(WORDS), name="late", label="outcome", trusted=True)
    assert (model.manifest.flavor, model.manifest.signature.task) == ("joblib", "classification")
    assert model.manifest.signature.classes == ("late", "on time")
    assert model.manifest.environment["scikit-learn"]
    evidence = model.manifest.data["adopted"]
    assert evidence["read_to_its_end"]
    assert "sklearn.ensemble._forest.RandomForestClassifier" in evidence["imports"]
    said = load(through_bytes(model)).predict(MIXED)
    assert said.values == made.predict(MIXED.to_pandas()).tolist()
    assert said.probabilities is not None
    assert np.array_equal(said.probabilities, made.predict_proba(MIXED.to_pandas()))


def test_an_estimator_fitted_on_an_array_answers_the_same(tmp_path: Path) -> None:
    made = LinearRegression().fit(NUMBERS.to_numpy(), NUMBERS["delay"].to_numpy())
    model = adopt(saved(made, tmp_path / "m.joblib"), NUMBERS, name="delay", task="regression", trusted=True)
    assert np.allclose(load(model).predict(NUMBERS).values, made.predict(NUMBERS.to_numpy()), atol=0)


def test_a_lightgbm_wrapper_by_joblib_keeps_its_categories(tmp_path: Path) -> None:
    frame = MIXED.select("carrier", "wind").to_pandas().astype({"carrier": "category"})
    made = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1).fit(frame, LATE.to_numpy())
    rows = MIXED.select("carrier", "wind", LATE)
    model = adopt(
        saved(made, tmp_path / "m.joblib"), rows, name="late", label="late", task="classification", trusted=True
    )
    said = load(model).predict(rows)
    assert said.probabilities is not None
    assert np.array_equal(said.probabilities, made.predict_proba(frame))


@pytest.mark.parametrize("zipmap", [True, False])
def test_an_onnx_classifier_answers_the_same(zipmap: bool, tmp_path: Path) -> None:
    made = make_pipeline(StandardScaler(), LogisticRegression()).fit(NUMBERS.to_numpy(), WORDS.to_numpy())
    graph = to_onnx(made, NUMBERS.to_numpy()[:1].astype(np.float32), options={"zipmap": zipmap})
    rows = NUMBERS.with_columns(WORDS)
    model = adopt(saved(graph, tmp_path / "m.onnx"), rows, name="late", label="outcome")
    assert (model.manifest.flavor, model.manifest.signature.classes) == ("onnx", ("late", "on time"))
    said = load(through_bytes(model)).predict(NUMBERS)
    assert said.probabilities is not None
    assert np.allclose(said.probabilities, made.predict_proba(NUMBERS.to_numpy()), atol=1e-5)
    assert np.mean(np.array(said.values) == made.predict(NUMBERS.to_numpy())) > 0.99


def test_an_onnx_graph_with_an_input_for_each_column(tmp_path: Path) -> None:
    frame = MIXED.select("carrier", "wind", "hour").drop_nulls()
    prepare = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    made = make_pipeline(prepare, LinearRegression()).fit(frame.to_pandas(), frame["wind"].to_numpy())
    graph = to_onnx(made, frame.to_pandas()[:1].astype({"wind": np.float32, "carrier": object}))
    model = adopt(saved(graph, tmp_path / "m.onnx"), frame.select("hour", "carrier", "wind"), name="delay")
    assert model.manifest.signature.task == "regression"
    assert np.allclose(load(model).predict(frame).values, made.predict(frame.to_pandas()), atol=1e-4)
    with pytest.raises(DataError, match="'carrier' has missing values"):
        load(model).predict(MIXED)


def test_onnx_classes_in_the_wrong_order_are_noticed(tmp_path: Path) -> None:
    made = LogisticRegression().fit(NUMBERS.to_numpy(), WORDS.to_numpy())
    graph = to_onnx(made, NUMBERS.to_numpy()[:1].astype(np.float32), options={"zipmap": False})
    with pytest.raises(InputError, match="not in the order"):
        adopt(saved(graph, tmp_path / "m.onnx"), NUMBERS, name="late", classes=("on time", "late"))


class Trap:
    """What an attacker would pickle."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("dump", [joblib.dump, lambda made, path: path.write_bytes(pickle.dumps(made))])
def test_a_pickle_is_never_loaded_to_be_inspected(dump: Any, tmp_path: Path) -> None:
    path, sprung = tmp_path / "m.joblib", tmp_path / "sprung"
    dump([np.arange(1000), np.array(["a", None], dtype=object), Trap(sprung)], path)
    model = adopt(path, NUMBERS, name="trap", task="regression")
    assert "posix.mkdir" in model.manifest.data["adopted"]["imports"]
    with pytest.raises(InputError, match="--trust"):
        load(through_bytes(model))
    assert not sprung.exists()
    # The trap is a real one: what nobody should vouch for does spring.
    with pytest.raises(DataError):
        load(adopt(path, NUMBERS, name="trap", task="regression", trusted=True))
    assert sprung.exists()


def test_a_pickle_that_lies_about_an_array_is_not_believed_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    joblib.dump({"weights": np.arange(1000.0)}, path)
    path.write_bytes(path.read_bytes()[:500])
    model = adopt(path, NUMBERS, name="cut", task="regression", trusted=True)
    assert not model.manifest.data["adopted"]["read_to_its_end"]
    with pytest.raises(DataError, match="cannot be unpickled"):
        load(model)


def test_samples_are_kept_and_fit_again(tmp_path: Path) -> None:
    model = adopt(
        saved(LinearRegression().fit(NUMBERS.to_numpy(), LATE.to_numpy()), tmp_path / "m"),
        MIXED.with_columns(LATE),
        name="late",
        label="late",
        task="regression",
    )
    assert samples(through_bytes(model)).equals(MIXED.head(100))
    assert model.manifest.features is not None
    assert model.manifest.features.request == tuple(MIXED.columns)


def test_samples_of_every_type_are_kept(tmp_path: Path) -> None:
    start = datetime(2013, 1, 31, 12, tzinfo=UTC)
    rows = pl.DataFrame(
        {"at": [start, None], "day": [start.date(), None], "yes": [True, None], "n": [1, None], "x": [0.5, None]}
    )
    path = saved(LinearRegression().fit([[1.0]], [1.0]), tmp_path / "m")
    model = adopt(path, rows, name="late", task="regression")
    assert [each.type for each in model.manifest.signature.inputs] == ["time", "date", "boolean", "number", "number"]
    assert samples(through_bytes(model)).equals(rows.cast({"n": pl.Float64}))


def test_onnx_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(to_onnx(LinearRegression().fit([[1.0]], [1.0]), np.zeros((1, 1), np.float32)), tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"tidemill\[onnx\]"):
        adopt(path, NUMBERS.select("wind"), name="late")


def test_without_pandas_the_estimator_still_gets_its_columns_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = LinearRegression().fit(NUMBERS.to_pandas(), LATE.to_numpy())
    rows = NUMBERS.select("delay", "wind", "distance")
    model = adopt(saved(made, tmp_path / "m.joblib"), rows, name="late", task="regression", trusted=True)
    monkeypatch.setattr("tidemill.models.flavors.joblib.find_spec", lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = load(model).predict(rows).values
    assert said == made.predict(NUMBERS.to_pandas()).tolist()


def test_whole_numbers_in_the_samples_do_not_cut_later_fractions(tmp_path: Path) -> None:
    made = LinearRegression().fit([[1.0], [3.0]], [1.0, 3.0])
    rows = pl.DataFrame({"price": [1, 2]})
    model = adopt(saved(made, tmp_path / "m"), rows, name="price", task="regression", trusted=True)
    assert load(model).predict(pl.DataFrame({"price": [2.5]})).values == pytest.approx([2.5])


@pytest.mark.parametrize("sent", [["many"], [[1.0]]])
def test_a_value_of_another_type_is_refused(sent: list[Any], adopted: Model) -> None:
    with pytest.raises(DataError, match="column 'wind' should be of type number"):
        load(adopted).predict(NUMBERS.head(1).with_columns(pl.Series("wind", sent)))


def test_equal_files_give_equal_packages(tmp_path: Path) -> None:
    path = saved(booster("binary", label=LATE), tmp_path / "m.txt")
    assert packed(adopt(path, NUMBERS, name="a")) == packed(adopt(path, NUMBERS, name="a"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.joblib", b"", "not known"),
        ("m.onnx", b"\x08\x07\x12\x05hello", "ONNX Runtime cannot read"),
        ("m.txt", b"tree\nversion=v4\nnum_class=1\n", "not whole"),
        ("m.zip", b"PK\x03\x04", "zip file"),
        ("m.csv", b"a,b\n1,2\n", "not known"),
    ],
)
def test_files_that_hold_no_model(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        adopt(path, NUMBERS, name="late")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no model at"):
        adopt(tmp_path / "nothing", NUMBERS, name="late")
    with pytest.raises(DataError, match="without an MLmodel"):
        adopt(tmp_path, NUMBERS, name="late")


def test_a_lightgbm_file_that_is_cut_off(tmp_path: Path) -> None:
    path = saved(NUMERIC_BOOSTER, tmp_path / "m.txt")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match="cut off"):
        adopt(path, NUMBERS, name="late")


def test_samples_that_do_not_fit_name_the_columns(tmp_path: Path) -> None:
    path = saved(NUMERIC_BOOSTER, tmp_path / "m.txt")
    with pytest.raises(DataError, match=r"do not have its features wind.*no features gust"):
        adopt(path, NUMBERS.rename({"wind": "gust"}), name="late")
    with pytest.raises(DataError, match="'wind' of the sample rows holds text"):
        adopt(path, NUMBERS.with_columns(pl.lit("calm").alias("wind")), name="late")
    with pytest.raises(DataError, match="no sample rows"):
        adopt(path, NUMBERS.clear(), name="late")


def test_an_estimator_with_other_columns_is_refused_when_loaded(tmp_path: Path) -> None:
    made = LinearRegression().fit(NUMBERS.to_pandas(), LATE.to_numpy())
    rows = NUMBERS.rename({"wind": "gust"})
    model = adopt(saved(made, tmp_path / "m.joblib"), rows, name="late", task="regression", trusted=True)
    with pytest.raises(DataError, match=r"missing wind; not among its features gust"):
        load(model)


def test_a_task_that_nobody_knows(tmp_path: Path) -> None:
    path = saved(LogisticRegression().fit(NUMBERS.to_numpy(), LATE.to_numpy()), tmp_path / "m.joblib")
    with pytest.raises(InputError, match="does not tell"):
        adopt(path, NUMBERS, name="late")
    with pytest.raises(InputError, match="classes of the model are not known"):
        adopt(path, NUMBERS, name="late", task="classification")
    wrong = adopt(path, NUMBERS, name="late", classes=("no", "yes"), trusted=True)
    with pytest.raises(DataError, match="knows the classes 0, 1"):
        load(wrong)
    with pytest.raises(DataError, match="has classes"):
        load(adopt(path, NUMBERS, name="late", task="regression", trusted=True))


def test_what_is_said_must_not_contradict_the_file(tmp_path: Path) -> None:
    path = saved(booster("binary", label=LATE), tmp_path / "m.txt")
    with pytest.raises(InputError, match="does classification, not regression"):
        adopt(path, NUMBERS, name="late", task="regression")
    with pytest.raises(InputError, match="has 2 classes"):
        adopt(path, NUMBERS, name="late", classes=("a", "b", "c"))


def test_a_classifier_without_probabilities_says_how_to_get_them(tmp_path: Path) -> None:
    made = RidgeClassifier().fit(NUMBERS.to_numpy(), LATE.to_numpy())
    model = adopt(saved(made, tmp_path / "m.joblib"), NUMBERS, name="late", classes=("0", "1"), trusted=True)
    with pytest.raises(DataError, match="CalibratedClassifierCV"):
        load(model)


def test_a_model_that_lives_in_a_notebook_only(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x04c__main__\nMine\n)\x81.")
    with pytest.raises(DataError, match=r"__main__\.Mine"):
        adopt(path, NUMBERS, name="late", task="regression")
