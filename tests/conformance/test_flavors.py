"""The flavors of models that Tidemill trains pass the flavor suite."""

from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
from river import compose, forest, preprocessing, tree
from river.linear_model import LogisticRegression
from sklearn.ensemble import HistGradientBoostingClassifier

from tidemill.core.model import Manifest, Model, PredictionTask, Signature
from tidemill.data.encoding import encode, fit_encoding
from tidemill.models.flavors import lightgbm as lightgbm_flavor
from tidemill.models.flavors import river as river_flavor
from tidemill.models.flavors import sklearn as sklearn_flavor
from tidemill.testing.flavors import FlavorSuite
from tidemill.training.learners import learn_rows

RANDOM = np.random.default_rng(5)
ROWS = pl.DataFrame(
    {
        "wind": RANDOM.normal(size=300),
        "carrier": RANDOM.choice(["AA", "UA", "DL"], 300),
        "seats": RANDOM.integers(50, 300, 300),
        "full": RANDOM.random(300) < 0.5,
    }
)
ENCODING = fit_encoding(ROWS, ("wind", "carrier", "seats", "full"))
MATRIX = encode(ENCODING, ROWS)
DELAY = ROWS["wind"].to_numpy() + (ROWS["carrier"] == "UA").to_numpy()
QUIET = {"verbose": -1, "num_threads": 1}


def manifest(flavor: str, task: PredictionTask, *classes: str) -> Manifest:
    return Manifest(name="late", flavor=flavor, signature=Signature(inputs=ENCODING.inputs, task=task, classes=classes))


class FlavorTest(FlavorSuite):
    @pytest.fixture
    def rows(self) -> pl.DataFrame:
        return ROWS


class TestLightGBMWithTwoClasses(FlavorTest):
    @pytest.fixture
    def model(self) -> Model:
        data = lightgbm.Dataset(MATRIX, DELAY > 0.3)
        booster = lightgbm.train(QUIET | {"objective": "binary"}, data, 10)
        return lightgbm_flavor.pack(manifest("lightgbm", "classification", "false", "true"), booster, ENCODING)


class TestLightGBMWithThreeClasses(FlavorTest):
    @pytest.fixture
    def model(self) -> Model:
        data = lightgbm.Dataset(MATRIX, np.digitize(DELAY, (-0.3, 0.7)))
        booster = lightgbm.train(QUIET | {"objective": "multiclass", "num_class": 3}, data, 10)
        return lightgbm_flavor.pack(manifest("lightgbm", "classification", "a", "b", "c"), booster, ENCODING)


class TestLightGBMRegression(FlavorTest):
    @pytest.fixture
    def model(self) -> Model:
        booster = lightgbm.train(QUIET | {"objective": "regression"}, lightgbm.Dataset(MATRIX, DELAY), 10)
        return lightgbm_flavor.pack(manifest("lightgbm", "regression"), booster, ENCODING)


class TestSklearn(FlavorTest):
    @pytest.fixture
    def model(self) -> Model:
        estimator = HistGradientBoostingClassifier(max_iter=5).fit(MATRIX, (DELAY > 0.3).astype(int))
        return sklearn_flavor.pack(manifest("sklearn", "classification", "false", "true"), estimator, ENCODING)


class RiverTest(FlavorTest):
    def pack(self, learner: Any, task: PredictionTask, target: Any, *classes: str) -> Model:
        package = river_flavor.pack(manifest("river", task, *classes), learner, ENCODING)
        opened = river_flavor.OpenLearner(package)
        learn_rows(opened.learner, river_flavor.LearnerRows(package).read(ROWS), target, len(classes))
        return opened.save()


class TestRiverWithTwoClasses(RiverTest):
    @pytest.fixture
    def model(self) -> Model:
        numbers = compose.SelectType(float) | preprocessing.StandardScaler()
        learner = (numbers + (compose.SelectType(str) | preprocessing.OneHotEncoder())) | LogisticRegression()
        return self.pack(learner, "classification", (DELAY > 0.3).astype(int), "false", "true")


class TestRiverWithThreeClasses(RiverTest):
    @pytest.fixture
    def model(self) -> Model:
        target = np.digitize(DELAY, (-0.3, 0.7))
        return self.pack(forest.ARFClassifier(n_models=3, seed=1), "classification", target, "a", "b", "c")


class TestRiverRegression(RiverTest):
    @pytest.fixture
    def model(self) -> Model:
        learner = compose.SelectType(float) | tree.HoeffdingTreeRegressor(grace_period=20)
        return self.pack(learner, "regression", DELAY)
