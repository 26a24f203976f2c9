"""Transformations of features.py: the same values in training, at serving, and in an exported package."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session, predict
from tidemill.core.model import Model
from tidemill.data.encoding import encode
from tidemill.errors import ConfigurationError, DataError
from tidemill.models.load import load
from tidemill.project.project import Project

FEATURES = '''
"""What the model learns from."""

import math
from datetime import datetime  # not used by a transformation

import numpy as np
import polars as pl

from hauling import rate_of
from tidemill import Entity, FeatureView, transformation

RATES = {"swift": 1.0}
RATES["thrifty"] = 2.0


@transformation
def km_per_item(distance_km, items, floor=1):
    """The distance for each item."""
    return distance_km / np.maximum(items, floor)


@transformation
def carrier(carrier):
    return carrier.str.to_uppercase()


@transformation(inputs=["carrier", "distance_km"], outputs=["rate", "is_far"])
def tariff(rows):
    return {"rate": [rate_of(RATES, name) for name in rows["carrier"]], "is_far": pl.col("distance_km") > LIMIT}


LIMIT = 500
'''
HAULING = """
def rate_of(rates, name):
    return rates.get((name or "").lower(), 0.5)
"""
ROWS = pl.DataFrame(
    {
        "order_id": ["a", "b", "c"],
        "ordered": [datetime(2026, 4, 1, hour, tzinfo=UTC) for hour in (1, 9, 17)],
        "distance_km": [900.0, 100.0, None],
        "items": [8, 1, 2],
        "carrier": ["thrifty", "steady", "swift"],
    }
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("transformations") / "shop"
    request = 'request = [\n    "ordered",\n    "distance_km",\n    "items",\n    "carrier",\n]'
    make_project(folder, replace={request: 'exclude = ["items"]', "[rollout]": "[rollout]\ncanary = false"})
    (folder / "features.py").write_text(FEATURES)
    (folder / "hauling.py").write_text(HAULING)
    tidemill(folder, "run", "training")
    yield folder
    sys.modules.pop("hauling", None)


def released(folder: Path, version: int = 1) -> Model:
    session = open_session(Project(folder))
    found = [each for each in session.workspace.ledger.releases.find(name="shop") if each.version == version]
    return session.packages.load(found[0].package)


def compute_by_hand(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of the transformations, written again as Polars expressions."""
    rates = {"SWIFT": 1.0, "THRIFTY": 2.0}
    upper = pl.col("carrier").str.to_uppercase()
    return rows.with_columns(
        km_per_item=pl.col("distance_km") / pl.max_horizontal("items", 1),
        carrier=upper,
        rate=upper.replace_strict(rates, default=0.5, return_dtype=pl.Float64),
        is_far=pl.col("distance_km") > 500,
    )


def test_a_request_has_the_raw_columns_and_the_model_gets_the_computed_ones(shop: Path) -> None:
    model = released(shop)
    raw = [column.name for column in model.manifest.signature.inputs]
    assert raw == ["distance_km", "items", "carrier"]
    encoding = load(model)._predictor._encoding  # type: ignore[attr-defined]
    learned = [column.name for column in encoding.columns]
    assert learned == ["distance_km", "carrier", "km_per_item", "rate", "is_far"]
    session = open_session(Project(shop))
    answers = predict(session, ROWS)
    booster = load(model)._predictor._booster  # type: ignore[attr-defined]
    own = booster.predict(encode(encoding, compute_by_hand(ROWS)))
    assert np.array([pair[1] for pair in answers["probability"]]) == pytest.approx(own, abs=1e-12)
    alone = [predict(session, ROWS[index])["probability"][0].to_list() for index in range(3)]
    assert alone == answers["probability"].to_list()
    assert json.loads(model.files["profile.json"])["columns"]
    assert answers["features"].struct.field("carrier").to_list() == ["thrifty", "steady", "swift"], "as it was sent"


def test_a_request_with_a_computed_column_is_refused(shop: Path) -> None:
    with pytest.raises(DataError, match="column 'rate' is unknown"):
        predict(open_session(Project(shop)), ROWS.with_columns(rate=pl.lit(1.0)))


def test_the_package_contains_only_the_code_that_the_functions_need(shop: Path) -> None:
    files = released(shop).files
    code = files["code/tidemill_features.py"].decode()
    assert "FeatureView" not in code
    assert "tidemill" not in code
    assert "RATES['thrifty'] = 2.0" in code
    assert "LIMIT = 500" in code
    assert files["code/hauling.py"].decode() == HAULING
    assert "polars==" in files["requirements.txt"].decode()


def test_an_exported_package_computes_the_same_without_tidemill(shop: Path, tmp_path: Path) -> None:
    tidemill(shop, "models", "export", "shop", "--to", str(tmp_path / "out"))
    script = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tidemill":
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1] + "/code")
import tidemill_model
print(json.dumps(tidemill_model._load_pyfunc(sys.argv[1]).scores(json.loads(sys.argv[2])).tolist()))
"""
    columns = ROWS.drop("ordered").to_dict(as_series=False)
    command = [sys.executable, "-c", script, str(tmp_path / "out"), json.dumps(columns)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    probabilities = load(released(shop)).predict(ROWS).probabilities
    assert probabilities is not None
    assert np.array(json.loads(done.stdout)) == pytest.approx(probabilities, abs=1e-12)


def test_each_release_keeps_its_own_transformations(shop: Path) -> None:
    before = load(released(shop)).predict(ROWS).probabilities
    features = shop / "features.py"
    features.write_text(FEATURES.replace("/ np.maximum(items, floor)", "* items"))
    tidemill(shop, "run", "training")
    features.write_text(FEATURES)
    first, second = released(shop), released(shop, 2)
    assert np.array_equal(load(first).predict(ROWS).probabilities, before)  # type: ignore[arg-type]
    assert first.files["code/tidemill_features.py"] != second.files["code/tidemill_features.py"]
    verdict = listed(shop, "checks", "list", "--check", "gate")[0]
    assert verdict["evidence"].get("champion_metrics"), "the champion was measured with its own transformations"


def test_comments_and_views_are_not_part_of_the_code(shop: Path) -> None:
    def code() -> dict[str, str]:
        project = Project(shop)
        return project.features(project.model()).code

    before = code()
    changed = FEATURES.replace("LIMIT = 500", "LIMIT = 500  # km").replace("The distance for each item", "km")
    (shop / "features.py").write_text(
        changed + '\nview = FeatureView(name="v", entity=Entity("e", ()), source="rows")\n'
    )
    assert code() == before
    (shop / "features.py").write_text(FEATURES.replace("LIMIT = 500", "LIMIT = 400"))
    assert code() != before
    (shop / "features.py").write_text(FEATURES)


IMPORTS = """
from datetime import datetime

import numpy as np
import polars as pl

from tidemill import transformation
"""
NESTED = """
from tidemill import transformation


def make():
    @transformation
    def x(items):
        return items

    return x


x = make()
"""
REFUSED: dict[str, tuple[str, str]] = {
    "mean": ("def x(items):\n    return items - items.mean()", "'x' is not row-wise"),
    "shift": ("def x(items):\n    return items.shift(1)", "'x' is not row-wise"),
    "rank": ("def x(items):\n    return items.rank()", "'x' is not row-wise"),
    "state": ("def x(items, seen=[]):\n    seen.append(1)\n    return [len(seen)] * len(items)", "'x' is not row-wise"),
    "random": ("def x(items):\n    return np.random.rand(len(items))", "random numbers without a seed"),
    "clock": ("def x(items):\n    return items + datetime.now().hour", "reads the clock"),
    "file": ("def x(items):\n    return items * TABLE.height\n\nTABLE = pl.read_csv('data/shop.csv')", "reads a file"),
    "label": ("def x(late):\n    return late", "reads the column 'late', which is not known"),
    "unknown": ("def x(weight):\n    return weight", "reads the column 'weight', which no source"),
    "height": ("def x(items):\n    return items.head(1)", "'x' returns 1 values for|'x' is not row-wise"),
    "error": ("def x(items):\n    return items.nothing", "'x' failed for row"),
    "key": ("def order_id(items):\n    return items", "computes the column 'order_id', which has another role"),
    "columns": ("def x(items):\n    return {'y': items}", "'x' returns the columns y, not x"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_differ_at_serving_is_refused(shop: Path, case: str) -> None:
    code, message = REFUSED[case]
    (shop / "features.py").write_text(f"{IMPORTS}\n\n@transformation\n{code}\n")
    try:
        done = tidemill(shop, "run", "training", code=2)
    finally:
        (shop / "features.py").write_text(FEATURES)
    assert re.search(message, done.stderr.replace("\n", " ")), done.stderr


def test_names_in_the_policy_choose_the_transformations(shop: Path) -> None:
    text = (shop / "tidemill.toml").read_text()
    (shop / "tidemill.toml").write_text(text.replace("[inputs]", '[inputs]\ntransformations = ["carrier"]'))
    try:
        project = Project(shop)
        features: Any = project.features(project.model())
        assert [each.name for each in features.transformations] == ["carrier"]
        assert list(features.code) == ["code/tidemill_features.py"]
    finally:
        (shop / "tidemill.toml").write_text(text)


def test_a_function_that_is_not_at_the_top_level_is_refused(shop: Path) -> None:
    (shop / "features.py").write_text(NESTED)
    try:
        project = Project(shop)
        with pytest.raises(ConfigurationError, match="not a function at the top level"):
            project.features(project.model())
    finally:
        (shop / "features.py").write_text(FEATURES)


WITH_A_VIEW = """
import polars as pl

from tidemill import Entity, FeatureView, transformation

register = FeatureView(name="register", entity=Entity("carrier", ("carrier",)), source="carriers", columns=("vans",))


@transformation
def load(items, register_vans):
    return items / register_vans


@transformation
def hour(ordered):
    return pl.when(ordered.is_null()).then(-1).otherwise(ordered.dt.hour())
"""


def test_a_transformation_reads_a_view_and_the_event_time(tmp_path: Path) -> None:
    sources = '[sources.carriers]\npath = "data/carriers.csv"\n\n[inputs]\nviews = ["register"]'
    folder = make_project(
        tmp_path / "shop", replace={"[inputs]": sources, "[gate] ": "[gate]\nenabled = false\n# "}
    ).folder
    carriers = pl.DataFrame({"carrier": ["swift", "steady", "thrifty"], "vans": [10, 50, 3]})
    carriers.write_csv(folder / "data" / "carriers.csv")
    (folder / "features.py").write_text(WITH_A_VIEW)
    tidemill(folder, "run", "training")
    tidemill(folder, "run", "materialization")
    answers = predict(open_session(Project(folder)), ROWS)
    model = load(released(folder))
    joined = ROWS.join(carriers.rename({"vans": "register_vans"}), on="carrier", maintain_order="left")
    computed = joined.with_columns(
        load=pl.col("items") / pl.col("register_vans"), hour=pl.col("ordered").dt.hour().cast(pl.Int64)
    )
    inner: Any = model._predictor  # type: ignore[attr-defined]
    own = inner._booster.predict(encode(inner._encoding, computed))
    assert np.array([pair[1] for pair in answers["probability"]]) == pytest.approx(own, abs=1e-12)
