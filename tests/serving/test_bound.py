"""A release that is bound to a value of the key serves exactly the rows with that value, in mixed requests too."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.kit import MODEL, ROW, ServingKit, history, package, raising, running
from tests.serving.test_service import predict_probabilities, start_service
from tidemill.core.model import Model
from tidemill.core.prediction import Prediction
from tidemill.errors import DataError
from tidemill.serving.router import assign_bound

VALUES: list[Any] = ["A", "B", "Ü", None, "", "new"]
ROWS = history(300, seed=9).with_columns(
    vehicle=pl.Series(np.random.default_rng(1).integers(0, len(VALUES), 300)).map_elements(
        lambda index: VALUES[index], return_dtype=pl.String
    )
)
CHAMPION, OF_A, OF_U = package(1), package(2), package(3)


@pytest.fixture
def bound(kit: ServingKit) -> ServingKit:
    """Model 1 is the champion, 2 is bound to A, 3 to Ü."""
    kit.route(
        kit.arm(1, CHAMPION, share=1.0),
        kit.arm(2, OF_A, "bound", value="A"),
        kit.arm(3, OF_U, "bound", value="Ü"),
        key="vehicle",
    )
    return kit


def choose(value: str | None) -> tuple[str, str, Model]:
    if value == "A":
        return f"{MODEL}/2", "bound", OF_A
    return (f"{MODEL}/3", "bound", OF_U) if value == "Ü" else (f"{MODEL}/1", "champion", CHAMPION)


def test_each_row_of_a_mixed_request_is_served_by_the_release_of_its_value(bound: ServingKit) -> None:
    predictions = start_service(bound).predict(MODEL, ROWS)
    expected = [choose(value) for value in ROWS["vehicle"]]
    assert predictions.select("release", "role").rows() == [(release, role) for release, role, _ in expected]
    for index in (0, 7, 100, 299):
        row = ROWS[index]
        assert predictions["probability"].to_list()[index] == predict_probabilities(expected[index][2], row)[0]


def test_the_journal_has_the_value_of_each_row(bound: ServingKit) -> None:
    predictions = start_service(bound).predict(MODEL, ROWS)
    assert predictions["regime"].to_list() == ROWS["vehicle"].to_list()
    journaled = bound.predictions()
    assert set(journaled.columns) == set(Prediction.__struct_fields__)
    assert journaled.sort("id").select("id", "regime").rows() == predictions.sort("id").select("id", "regime").rows()


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.String])
def test_equal_numbers_are_one_value_whatever_their_type(kit: ServingKit, dtype: Any) -> None:
    kit.route(kit.arm(1, CHAMPION), kit.arm(2, OF_A, "bound", value="7"), key="site")
    sites = pl.Series([7, 8, None, 7]).cast(pl.Int64).cast(dtype)
    rows = ROWS[:4].with_columns(sites.alias("site"))
    served = start_service(kit).predict(MODEL, rows)["release"].to_list()
    assert served == [f"{MODEL}/2", f"{MODEL}/1", f"{MODEL}/1", f"{MODEL}/2"]


def test_without_the_column_the_champion_serves_with_a_warning_and_a_strict_model_refuses(bound: ServingKit) -> None:
    rows = ROWS[:5].drop("vehicle", "flight", "when")
    result = start_service(bound).predict_request(MODEL, rows)
    assert set(result.rows["release"]) == {f"{MODEL}/1"}
    assert result.rows["regime"].null_count() == 5
    assert [warning.column for warning in result.warnings] == ["vehicle"]
    assert "names the regime of a row" in result.warnings[0].message
    with pytest.raises(DataError, match="'vehicle', which names the regime of a row, is absent"):
        start_service(bound, strict=(MODEL,)).predict(MODEL, rows)


def test_a_row_with_null_has_no_warning(bound: ServingKit) -> None:
    rows = ROWS[:1].drop("flight", "when").with_columns(vehicle=pl.lit(None, pl.String))
    result = start_service(bound, strict=(MODEL,)).predict_request(MODEL, rows)
    assert (result.rows["release"][0], result.warnings) == (f"{MODEL}/1", ())


def test_the_champion_serves_the_rows_that_a_bound_release_cannot(kit: ServingKit) -> None:
    kit.route(kit.arm(1, CHAMPION), kit.arm(2, raising(package(2)), "bound", value="A"), key="vehicle")
    predictions = start_service(kit).predict(MODEL, ROWS)
    assert set(predictions["release"]) == {f"{MODEL}/1"}
    failures = kit.workspace.journal.read(f"failures/{MODEL}")
    assert failures.height == ROWS.filter(vehicle="A").height
    assert set(failures["role"]) == {"bound"}


def test_rows_of_bound_releases_take_no_part_in_a_canary(kit: ServingKit) -> None:
    kit.route(
        kit.arm(1, CHAMPION, share=0.5),
        kit.arm(4, package(4), "challenger", 0.5),
        kit.arm(4, package(4), "shadow"),
        kit.arm(2, OF_A, "bound", value="A"),
        key="vehicle",
    )
    start_service(kit).predict(MODEL, ROWS)
    journaled = kit.predictions()
    of_a = journaled.filter(regime="A")
    assert of_a.select("release", "role").unique().rows() == [(f"{MODEL}/2", "bound")]
    others = journaled.filter(pl.col("regime").ne_missing("A"))
    assert set(others["role"]) == {"champion", "challenger", "shadow"}
    assert others.filter(pl.col("role") != "shadow").height == ROWS.filter(pl.col("vehicle").ne_missing("A")).height


def test_over_http_each_prediction_names_its_release(bound: ServingKit) -> None:
    rows = [ROW | {"vehicle": value} for value in ("A", "B", "Ü", None)]
    with running(bound) as (_, client):
        reply = client.post(f"/predict/{MODEL}", json={"rows": rows}).json()
        assert [prediction["release"] for prediction in reply["predictions"]] == [
            choose(row["vehicle"])[0] for row in rows
        ]
        alone = client.post(f"/predict/{MODEL}", json={"rows": [ROW | {"vehicle": "A"}]}).json()
        assert alone["release"] == f"{MODEL}/2"
        releases = client.get("/ready").json()["models"][MODEL]["releases"]
        assert {entry.get("vehicle") for entry in releases} == {None, "A", "Ü"}
        mixed = client.post(f"/predict/{MODEL}", json={"rows": [ROW | {"vehicle": value} for value in (7, "A", True)]})
        assert mixed.status_code in (200, 422)
        assert mixed.status_code == 200 or "vehicle" in mixed.json()["error"]


@given(
    values=st.lists(st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["a", "b"])), max_size=30),
    bound=st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 5), max_size=5),
)
def test_a_row_gets_the_arm_of_its_value_or_none(values: list[str | None], bound: dict[str, int]) -> None:
    assert assign_bound(values, bound).tolist() == [
        -1 if value in (None, "") else bound.get(value, -1) for value in values
    ]
