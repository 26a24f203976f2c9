"""How much of a model uses each of its inputs, read from its package."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tidemill.core.model import Manifest, Model, Signature
from tidemill.data.encoding import encode, fit_encoding
from tidemill.models.flavors import lightgbm
from tidemill.models.flavors.lightgbm import measure_use


def pack(label: str) -> Model:
    import lightgbm as library

    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "wind speed": random.normal(size=400),
            "never": [3.0] * 400,
            "seen": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=7 * row) for row in range(400)],
            "word ü": random.choice(["a", "b"], 400),
        }
    )
    encoding = fit_encoding(frame, tuple(frame.columns))
    matrix = encode(encoding, frame)
    names = [f"c{index}" for index in range(matrix.shape[1])]
    target = matrix[:, encoding.names.index(label)]
    data = library.Dataset(matrix, target, feature_name=names)
    booster = library.train({"verbose": -1, "objective": "regression"}, data, 10)
    manifest = Manifest(name="m", flavor="lightgbm", signature=Signature(inputs=(), task="regression"))
    return lightgbm.pack(manifest, booster, encoding)


def test_the_use_of_columns_adds_up_and_that_of_a_time_is_that_of_its_parts() -> None:
    use = measure_use(pack("wind speed"))
    assert list(use) == ["wind speed", "never", "seen", "word ü"]
    assert sum(use.values()) == pytest.approx(1.0)
    assert use["never"] == 0.0
    assert use["wind speed"] == max(use.values())
    assert measure_use(pack("seen_elapsed"))["seen"] > 0.5


def test_a_package_of_another_flavor_has_no_use() -> None:
    assert (
        measure_use(Model(manifest=Manifest(name="m", flavor="f", signature=Signature(inputs=(), task="regression"))))
        == {}
    )
