"""LightGBM text of other people: categories that cannot be matched, and names of any characters."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest

from tidemill.errors import DataError
from tidemill.models.adopt import adopt
from tidemill.models.load import load

ROWS = 400


def train(frame: Any, target: Any, file: Path, **options: Any) -> lightgbm.Booster:
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    booster = lightgbm.train(settings, lightgbm.Dataset(frame, target, **options), 10)
    booster.save_model(file)
    return booster


def test_categories_of_another_column_than_that_with_codes_are_refused(tmp_path: Path) -> None:
    """An ordered category is a number for LightGBM, and the file lists its categories all the same."""
    random = np.random.default_rng(0)
    group = pd.cut(random.integers(18, 80, ROWS), [0, 30, 50, 100], labels=[10, 20, 30])
    store = random.integers(0, 4, ROWS)
    frame = pd.DataFrame({"group": group, "store": store})
    target = np.isin(store, [1, 3]) ^ (np.asarray(group) == 30)
    train(frame, target, tmp_path / "model.txt", categorical_feature=["store"])
    rows = pl.DataFrame({"group": np.asarray(group).astype(int), "store": store, "y": target.astype(int)})
    with pytest.raises(DataError, match="does not fit its 3 pandas categories"):
        adopt(tmp_path / "model.txt", rows, name="late", label="y")


@pytest.mark.parametrize("name", ["Preis\u00a0EUR", "a\u2028c", "a\x85c", "Preis EUR"])
def test_a_name_can_have_any_space(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(ROWS, 2))
    target = values[:, 0] + random.normal(size=ROWS) > 0
    file = tmp_path / "model.txt"
    booster = train(pd.DataFrame(values, columns=[name, "b"]), target, file)
    known = booster.feature_name()
    rows = pl.DataFrame(dict(zip(known, values.T, strict=True)) | {"y": target.astype(int)})
    model = adopt(file, rows, name="late", label="y")
    probabilities = load(model).predict(rows.drop("y")).probabilities
    assert probabilities is not None
    assert probabilities[:, 1] == pytest.approx(booster.predict(values))
