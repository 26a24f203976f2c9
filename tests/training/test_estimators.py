"""Estimators of the recipe get numbers, or a frame with names; their packages predict what they predict."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.projects import make_project, tidemill
from tidemill.compose.session import open_session, predict
from tidemill.core.model import Manifest, Signature
from tidemill.core.policy import Training
from tidemill.data.encoding import encode, fit_encoding
from tidemill.data.metrics import Truth
from tidemill.data.rows import RowReader
from tidemill.errors import ConfigurationError
from tidemill.models.flavors import sklearn
from tidemill.models.load import load
from tidemill.models.package import make_portable, to_files
from tidemill.models.portable import PortableModel
from tidemill.project.project import Project
from tidemill.training.estimators import EstimatorRows, FittedEstimator, fit_estimator

RANDOM = np.random.default_rng(7)
COUNT = 300
ROWS = pl.DataFrame(
    {
        "delay": pl.Series([None if i % 9 == 0 else v for i, v in enumerate(RANDOM.normal(size=COUNT).tolist())]),
        "kids": pl.Series([None if i % 13 == 0 else v for i, v in enumerate(RANDOM.integers(0, 5, COUNT).tolist())]),
        "town": pl.Series([None if i % 17 == 0 else v for i, v in enumerate(RANDOM.choice(["ulm", "bonn"], COUNT))]),
        "vip": RANDOM.random(COUNT) < 0.4,
        "ordered": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=7 * i) for i in range(COUNT)],
    },
    schema_overrides={"town": pl.String},
)
SCORE = (ROWS["delay"].fill_null(0) + (ROWS["town"] == "ulm").fill_null(value=False) + ROWS["vip"]).to_numpy()
TARGET = (SCORE > 1).astype(int)
MODULE = "tests.training.frame_estimators:"
FORMS = {
    "by_name": "polars",
    "searched": "polars",
    "by_polars": "polars",
    "by_pandas": "pandas",
    "by_type": "pandas",
    "by_named_categories": "polars-numbers",
    "Rule": "polars",
}


def fit(estimator: str, target: Any = TARGET, **options: Any) -> tuple[FittedEstimator, Any]:
    encoding = fit_encoding(ROWS, tuple(ROWS.columns))
    rows = EstimatorRows(encode(encoding, ROWS), encoding.names, RowReader(encoding.inputs).read_frame(ROWS))
    task = options.pop("task", "classification")
    return fit_estimator(rows, target, policy=Training(estimator=estimator, **options), task=task), encoding


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore")
def test_an_estimator_gets_the_rows_that_it_wants_wherever_it_predicts(name: str, tmp_path: Path) -> None:
    fitted, encoding = fit(MODULE + name)
    assert fitted.form == FORMS[name]
    assert fitted.form != "learner"
    signature = Signature(inputs=encoding.inputs, task="classification", classes=("early", "late"))
    model = make_portable(
        sklearn.pack(Manifest(name="m", flavor="sklearn", signature=signature), fitted.estimator, encoding, fitted.form)
    )
    asked = ROWS.tail(40).with_columns(
        town=pl.when(pl.int_range(40) < 3).then(pl.lit("atlantis")).otherwise("town"),
        ordered=pl.col("ordered").dt.convert_time_zone("Europe/Zurich"),
    )
    table = RowReader(encoding.inputs).read_frame(asked)
    frames: dict[str, Any] = {"polars": table, "polars-numbers": pl.DataFrame(encode(encoding, asked), encoding.names)}
    if fitted.form == "pandas":
        frames["pandas"] = asked.select(pl.exclude("ordered")).to_pandas()
    own = fitted.estimator.predict_proba(frames[fitted.form])
    probabilities = load(model).predict(asked).probabilities
    assert probabilities == pytest.approx(own, abs=1e-12)
    alone = [load(model).predict(asked[index]).probabilities[0] for index in range(5)]  # type: ignore[index]
    assert np.array(alone) == pytest.approx(own[:5], abs=1e-12)
    for file, content in to_files(model).items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path / "code")
        assert PortableModel(tmp_path).scores(asked.to_dict(as_series=False)) == pytest.approx(own, abs=1e-12)
    lock = model.files["requirements.txt"].decode()
    assert "polars==" in lock
    assert ("pandas==" in lock) == (fitted.form == "pandas")


def test_an_estimator_that_accepts_numbers_gets_numbers() -> None:
    fitted, _ = fit("sklearn.ensemble:HistGradientBoostingClassifier")
    assert fitted.form == "numbers"
    assert not hasattr(fitted.estimator, "feature_names_in_")
    with pytest.raises(ValueError, match="Specifying the columns using strings"):
        fit(MODULE + "by_name", frame="numbers")


def test_a_regression_by_names() -> None:
    fitted, encoding = fit(MODULE + "by_name_numbers", SCORE, task="regression")
    rows = EstimatorRows(encode(encoding, ROWS), encoding.names, RowReader(encoding.inputs).read_frame(ROWS))
    scores = fitted.score(rows, Truth("regression", SCORE))
    assert scores.shape == (COUNT,)
    assert float(np.mean((scores - SCORE) ** 2)) < float(np.var(SCORE)) / 2


def test_an_estimator_without_probabilities_is_refused_with_a_cure() -> None:
    with pytest.raises(ConfigurationError, match="has no probabilities") as caught:
        fit(MODULE + "hinge")
    assert "CalibratedClassifierCV" in caught.value.cure


def test_the_first_error_is_the_one_that_is_reported() -> None:
    with pytest.raises(ValueError, match="max_iter"):
        fit(MODULE + "broken", params={"depth": 3})


def test_without_pandas_the_error_names_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.training.estimators.has_pandas", lambda: False)
    with pytest.raises(ConfigurationError, match="cannot be fitted on a Polars frame") as caught:
        fit(MODULE + "by_type")
    assert "pip install 'tidemill[pandas]'" in caught.value.cure
    with pytest.raises(ConfigurationError, match="pandas is not installed"):
        fit(MODULE + "by_name", frame="pandas")


BUILD = '''
"""The estimator of the shop."""

from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def build(c=1.0):
    columns = make_column_transformer(
        (StandardScaler(), ["distance_km", "items"]), (OneHotEncoder(handle_unknown="ignore"), ["carrier"])
    )
    return make_pipeline(columns, LogisticRegression(C=c, max_iter=500))
'''


@pytest.mark.filterwarnings("ignore")
def test_a_training_with_a_column_transformer_by_names(tmp_path: Path) -> None:
    replaced = {"[training]": '[training]\nestimator = "shop_estimator:build"\nparams = { c = 0.5 }'}
    folder = make_project(tmp_path / "shop", replace=replaced).folder
    (folder / "shop_estimator.py").write_text(BUILD)
    tidemill(folder, "run", "training")
    session = open_session(Project(folder))
    release = session.workspace.ledger.releases.find(name="shop")[0]
    model = session.packages.load(release.package)
    rows = pl.read_csv(folder / "data" / "shop.csv", try_parse_dates=True).drop("late").head(20)
    answers = predict(session, rows)
    estimator = load(model)._estimator  # type: ignore[attr-defined]
    own = estimator.predict_proba(rows.select("distance_km", "items", "carrier"))
    assert np.array(answers["probability"].to_list()) == pytest.approx(own, abs=1e-12)


@pytest.mark.parametrize(
    ("library", "estimator", "params", "form"),
    [
        ("xgboost", "XGBClassifier", {"n_estimators": 5}, "numbers"),
        ("catboost", "CatBoostClassifier", {"iterations": 5}, "numbers"),
        ("catboost", "CatBoostClassifier", {"iterations": 5, "cat_features": ["town"]}, "catboost"),
    ],
)
def test_boosting_of_other_libraries(library: str, estimator: str, params: dict[str, Any], form: str) -> None:
    quiet = {"verbose": 0, "allow_writing_files": False} if library == "catboost" else {}
    words = np.array(["early", "late", "never"])
    target = np.where(SCORE > 1.5, 2, TARGET)
    fitted, encoding = fit(f"{library}:{estimator}", target, params=params | quiet)
    assert fitted.form == form
    assert fitted.form != "learner"
    again, _ = fit(f"{library}:{estimator}", target, params=params | quiet)
    signature = Signature(inputs=encoding.inputs, task="classification", classes=tuple(words))
    manifest = Manifest(name="m", flavor="sklearn", signature=signature)
    predictor = load(sklearn.pack(manifest, fitted.estimator, encoding, fitted.form))
    rows = EstimatorRows(encode(encoding, ROWS), encoding.names, RowReader(encoding.inputs).read_frame(ROWS))
    own = fitted.estimator.predict_proba(rows.to_form(fitted.form))
    predictions = predictor.predict(ROWS)
    assert predictions.probabilities == pytest.approx(own, abs=1e-12)
    assert predictions.values == words[own.argmax(axis=1)].tolist()
    assert again.estimator.predict_proba(rows.to_form(again.form)) == pytest.approx(own, abs=1e-12)
