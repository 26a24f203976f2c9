"""The flavors of models that Tidemill trains pass the flavor suite."""

import lightgbm
import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from tidemill.core.model import Manifest, Model, PredictionTask, Signature
from tidemill.data.encoding import encode, fit_encoding
from tidemill.models.flavors import lightgbm as lightgbm_flavor
from tidemill.models.flavors import sklearn as sklearn_flavor
from tidemill.testing.flavors import FlavorSuite

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
