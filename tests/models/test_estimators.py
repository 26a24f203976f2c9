"""Estimators of other libraries, adopted from a file: the release predicts what the estimator itself predicts."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from tidemill.data.keys import to_class_names
from tidemill.errors import DataError
from tidemill.models.adopt import adopt
from tidemill.models.load import load

RANDOM = np.random.default_rng(4)
COUNT = 160
X = pl.DataFrame(
    {
        "delay": RANDOM.normal(size=COUNT).round(3),
        "kids": RANDOM.integers(0, 5, COUNT),
        "town": RANDOM.choice(["ulm", "bonn", "kiel"], COUNT),
        "vip": RANDOM.random(COUNT) < 0.4,
    }
)
SCORE = (X["delay"] + (X["town"] == "ulm") + X["vip"]).to_numpy()
LABELS: dict[str, Any] = {
    "words": np.where(SCORE > 1.5, "low", np.where(SCORE > 0.5, "high", "mid")),
    "booleans": SCORE > 1,
    "integers": np.where(SCORE > 1, 10, 2),
    "floats": np.where(SCORE > 1, 2.0, -1.0),
    "objects": np.array([str(score > 1) for score in SCORE], dtype=object),
}
NUMBERS = X.select("delay", "kids", pl.col("vip").cast(pl.Int64))
CLASSIFIERS: dict[str, Any] = {
    "logistic": LogisticRegression(max_iter=500),
    "forest": RandomForestClassifier(20, random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=10),
    "boosting": AdaBoostClassifier(n_estimators=10),
    "bayes": GaussianNB(),
    "neighbors": KNeighborsClassifier(),
    "tree": DecisionTreeClassifier(max_depth=4),
    "network": MLPClassifier((4,), max_iter=50, random_state=0),
    "support vectors": CalibratedClassifierCV(LinearSVC(), cv=2),
    "gradient descent": SGDClassifier(loss="log_loss", random_state=0),
    "dummy": DummyClassifier(strategy="prior"),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "voting": VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=2))], voting="soft"),
    "stacking": StackingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=2))], cv=2),
    "search": GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2, 3]}, cv=2),
    "wrapper": LGBMClassifier(n_estimators=5, min_child_samples=5, verbose=-1),
    "function": make_pipeline(FunctionTransformer(np.log1p), FunctionTransformer(), GaussianNB()),
}
BY_NAME = make_column_transformer(
    (SimpleImputer(), ["delay", "kids"]),
    (OneHotEncoder(handle_unknown="ignore"), ["town", "vip"]),
)


def adopt_and_load(fitted: Any, folder: Path, samples: pl.DataFrame, classes: tuple[str, ...]) -> Any:
    joblib.dump(fitted, folder / "m.joblib")
    task = "classification" if classes else "regression"
    return load(adopt(folder / "m.joblib", samples, name="m", task=task, classes=classes, trusted=True))  # type: ignore[arg-type]


def name_classes(fitted: Any) -> list[str]:
    return to_class_names(pl.Series(fitted.classes_.tolist())).to_list()


def require_same(fitted: Any, rows: Any, predictor: Any, asked: pl.DataFrame, classes: tuple[str, ...]) -> None:
    """Compare a predictor with the estimator itself, on rows in the form that it was fitted on."""
    own = name_classes(fitted)
    predictions = predictor.predict(asked)
    expected = fitted.predict_proba(rows)[:, [own.index(name) for name in classes]]
    assert np.abs(predictions.probabilities - expected).max() < 1e-9
    assert predictions.values == to_class_names(pl.Series(np.asarray(fitted.predict(rows)).ravel().tolist())).to_list()


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, kind) for name in CLASSIFIERS for kind in ("words", "booleans")), *(("tree", kind) for kind in LABELS)],
)
@pytest.mark.filterwarnings("ignore")
def test_a_classifier_predicts_what_it_predicts_itself(name: str, kind: str, tmp_path: Path) -> None:
    table = NUMBERS.with_columns(pl.col("delay").abs()) if name == "function" else NUMBERS
    for rows in (table.to_numpy().astype(float), table.to_pandas()):
        fitted = CLASSIFIERS[name].fit(rows, LABELS[kind])
        classes = tuple(reversed(name_classes(fitted)))
        predictor = adopt_and_load(fitted, tmp_path, table.head(40), classes)
        asked = table.tail(30)
        require_same(fitted, rows[-30:] if isinstance(rows, np.ndarray) else rows.tail(30), predictor, asked, classes)


@settings(max_examples=12, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(LABELS)))
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_pipeline_by_names_predicts_the_same_for_any_order_gaps_and_unseen_words(
    library: str, data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    training = X.to_pandas() if library == "pandas" else X
    fitted = make_pipeline(BY_NAME, LogisticRegression(max_iter=200)).fit(training, LABELS[kind])
    classes = tuple(data.draw(st.permutations(name_classes(fitted))))
    samples = X.head(50).select(data.draw(st.permutations(X.columns)))
    predictor = adopt_and_load(fitted, tmp_path_factory.mktemp("m"), samples, classes)
    rows = data.draw(
        st.lists(
            st.tuples(
                st.none() | st.floats(-9, 9),
                st.none() | st.integers(0, 9),
                st.sampled_from(["ulm", "bonn", "atlantis"]),
                st.booleans(),
            ),
            min_size=1,
            max_size=6,
        )
    )
    asked = pl.DataFrame(
        rows, schema={"delay": pl.Float64, "kids": pl.Int64, "town": pl.String, "vip": pl.Boolean}, orient="row"
    )
    own = pandas.DataFrame(rows, columns=X.columns).astype({"delay": float, "kids": float})
    require_same(
        fitted, own if library == "pandas" else pl.from_pandas(own), predictor, asked.select(samples.columns), classes
    )


@pytest.mark.parametrize("wrap", ["plain", "search", "calibrated", "voting", "pipeline"])
@pytest.mark.filterwarnings("ignore")
def test_lightgbm_keeps_categories_of_words_numbers_and_booleans(wrap: str, tmp_path: Path) -> None:
    rows = X.to_pandas()
    rows = rows.assign(**{name: rows[name].astype("category") for name in ("town", "kids", "vip")})
    booster = LGBMClassifier(n_estimators=10, min_child_samples=5, verbose=-1)
    estimator: Any = {
        "plain": booster,
        "search": GridSearchCV(booster, {"num_leaves": [4, 8]}, cv=2),
        "calibrated": CalibratedClassifierCV(booster, cv=2),
        "voting": VotingClassifier([("a", booster), ("b", booster)], voting="soft"),
        "pipeline": make_pipeline("passthrough", booster),
    }[wrap]
    fitted = estimator.fit(rows, LABELS["words"])
    classes = tuple(name_classes(fitted))
    X.head(50).write_csv(tmp_path / "s.csv")
    predictor = adopt_and_load(fitted, tmp_path, pl.read_csv(tmp_path / "s.csv"), classes)
    require_same(fitted, rows.tail(60), predictor, X.tail(60), classes)
    gaps = X.tail(3).with_columns(kids=pl.Series([None, 77, 2]), town=pl.Series([None, "atlantis", "ulm"]))
    own = rows.tail(3).assign(
        kids=pandas.Categorical([None, None, 2], categories=range(5)),
        town=pandas.Categorical([None, None, "ulm"], categories=["bonn", "kiel", "ulm"]),
    )
    require_same(fitted, own, predictor, gaps, classes)


def test_samples_of_another_type_than_the_categories_are_refused(tmp_path: Path) -> None:
    rows = pandas.DataFrame({"zip": pandas.Categorical(["8001", "8002", "3000"] * 20), "n": range(60)})
    fitted = LGBMClassifier(n_estimators=3, min_child_samples=5, verbose=-1).fit(rows, ["a", "b", "b"] * 20)
    samples = pl.DataFrame({"zip": [8001, 8002], "n": [1, 2]})
    with pytest.raises(DataError, match="no sample row has one of them: they have 800") as caught:
        adopt_and_load(fitted, tmp_path, samples, ("a", "b"))
    assert "Parquet" in caught.value.cure


REGRESSORS: dict[str, Any] = {
    "linear": LinearRegression(),
    "forest": ExtraTreesRegressor(10, random_state=0),
    "boosting": HistGradientBoostingRegressor(max_iter=10),
    "least squares": PLSRegression(2),
    "target": TransformedTargetRegressor(LinearRegression(), func=np.arcsinh, inverse_func=np.sinh),
}


@pytest.mark.parametrize("shape", [(COUNT,), (COUNT, 1)])
@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.filterwarnings("ignore")
def test_a_regressor_predicts_one_number_for_each_row(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    fitted = REGRESSORS[name].fit(NUMBERS.to_pandas(), SCORE.reshape(shape))
    predictor = adopt_and_load(fitted, tmp_path, NUMBERS.head(40), ())
    own = np.asarray(fitted.predict(NUMBERS.to_pandas())).ravel()
    assert predictor.predict(NUMBERS).values == pytest.approx(own)


@pytest.mark.filterwarnings("ignore")
def test_several_outputs_are_refused_with_a_cure(tmp_path: Path) -> None:
    two = LinearRegression().fit(NUMBERS.to_numpy(), np.column_stack((SCORE, SCORE)))
    with pytest.raises(DataError, match="the model predicts 2 values for a row"):
        adopt_and_load(two, tmp_path, NUMBERS.head(9), ())
    labels = np.column_stack((SCORE > 1, SCORE > 0)).astype(int)
    for estimator in (MultiOutputClassifier(LogisticRegression()), DecisionTreeClassifier(max_depth=2)):
        with pytest.raises(DataError, match="predicts several labels for a row"):
            adopt_and_load(estimator.fit(NUMBERS.to_numpy(), labels), tmp_path, NUMBERS.head(9), ("0", "1"))


@pytest.mark.parametrize("estimator", [LinearSVC(), RidgeClassifier(), SVC(), SGDClassifier()])
@pytest.mark.filterwarnings("ignore")
def test_an_estimator_without_probabilities_is_refused_with_a_cure(estimator: Any, tmp_path: Path) -> None:
    fitted = estimator.fit(NUMBERS.to_numpy(), LABELS["integers"])
    with pytest.raises(DataError, match="has no probabilities") as caught:
        adopt_and_load(fitted, tmp_path, NUMBERS.head(9), ("2", "10"))
    assert "CalibratedClassifierCV" in caught.value.cure
    cured = CalibratedClassifierCV(estimator, cv=2).fit(NUMBERS.to_numpy(), LABELS["integers"])
    assert adopt_and_load(cured, tmp_path, NUMBERS.head(9), ("2", "10"))


def test_a_threshold_of_the_estimator_decides_the_class(tmp_path: Path) -> None:
    fitted = FixedThresholdClassifier(LogisticRegression(), threshold=0.2).fit(NUMBERS.to_numpy(), LABELS["integers"])
    predictor = adopt_and_load(fitted, tmp_path, NUMBERS.head(9), ("2", "10"))
    require_same(fitted, NUMBERS.to_numpy(), predictor, NUMBERS, ("2", "10"))


def test_weights_of_rows_change_nothing_for_requests(tmp_path: Path) -> None:
    weights = np.linspace(0, 1, COUNT)
    fitted = RandomForestClassifier(5, random_state=1).fit(
        NUMBERS.to_numpy(), LABELS["integers"], sample_weight=weights
    )
    predictor = adopt_and_load(fitted, tmp_path, NUMBERS.head(9), ("2", "10"))
    require_same(fitted, NUMBERS.to_numpy(), predictor, NUMBERS, ("2", "10"))


@pytest.mark.parametrize("kind", LABELS)
def test_xgboost(kind: str, tmp_path: Path) -> None:
    import xgboost

    names = tuple(sorted({str(value).lower() for value in LABELS[kind]}))
    target = np.array([names.index(str(value).lower()) for value in LABELS[kind]])
    rows = X.to_pandas()
    rows = rows.assign(**{name: rows[name].astype("category") for name in ("town", "kids")})
    classes = tuple(str(index) for index in range(len(names)))
    fitted = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True).fit(rows, target)
    require_same(fitted, rows, adopt_and_load(fitted, tmp_path, X.head(50), classes), X, classes)
    plain = xgboost.XGBClassifier(n_estimators=5).fit(NUMBERS.to_numpy(), target)
    require_same(
        plain, NUMBERS.to_numpy(), adopt_and_load(plain, tmp_path, NUMBERS.head(50), classes), NUMBERS, classes
    )
    regressor = xgboost.XGBRegressor(n_estimators=5).fit(NUMBERS.to_pandas(), SCORE)
    predictor = adopt_and_load(regressor, tmp_path, NUMBERS.head(50), ())
    assert predictor.predict(NUMBERS).values == pytest.approx(regressor.predict(NUMBERS.to_pandas()))


@pytest.mark.parametrize("kind", LABELS)
def test_catboost(kind: str, tmp_path: Path) -> None:
    import catboost

    options = {"iterations": 5, "verbose": 0, "allow_writing_files": False}
    fitted = catboost.CatBoostClassifier(cat_features=["town", "kids"], **options).fit(X.to_pandas(), LABELS[kind])
    classes = tuple(name_classes(fitted))
    samples = X.head(50).select("town", "vip", "kids", "delay")
    predictor = adopt_and_load(fitted, tmp_path, samples, classes)
    require_same(fitted, X.to_pandas(), predictor, X.select(samples.columns), classes)
    assert predictor.predict(X.head(2).with_columns(town=pl.lit(None, pl.String), kids=pl.lit(None, pl.Int64))).values
    plain = catboost.CatBoostClassifier(**options).fit(NUMBERS.to_numpy(), LABELS[kind])
    require_same(
        plain, NUMBERS.to_numpy(), adopt_and_load(plain, tmp_path, NUMBERS.head(50), classes), NUMBERS, classes
    )
