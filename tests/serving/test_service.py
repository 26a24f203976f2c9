"""The routed releases predict the rows exactly as their models do, and the journal contains every prediction."""

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tests.serving.kit import MODEL, ServingKit, history, package, predicting_nan, raising, requiring
from tidemill.clock import SystemClock, VirtualClock
from tidemill.core.feature import Entity, FeatureSet, FeatureView
from tidemill.core.model import Model
from tidemill.core.prediction import Failure, Prediction
from tidemill.errors import DataError, NotFound, TidemillError, Transient
from tidemill.featurestore.lookup import Lookup
from tidemill.models.load import load
from tidemill.serving.service import Service

NOW = datetime(2013, 6, 1, tzinfo=UTC)
ROWS = history(300, seed=9)


def start_service(kit: ServingKit, strict: Container[str] = ()) -> Service:
    started = Service(
        kit.workspace.board,
        kit.packages,
        kit.workspace.journal,
        Lookup(kit.workspace.online),
        VirtualClock(NOW),
        strict=strict,
    )
    started.refresh()
    return started


def predict_probabilities(model: Model, rows: pl.DataFrame) -> list[list[float]]:
    table = load(model).predict(rows).probabilities
    assert table is not None
    as_lists: list[list[float]] = table.tolist()
    return as_lists


def test_predictions_are_the_same_as_the_model_s(kit: ServingKit) -> None:
    model = package()
    kit.route(kit.arm(1, model))
    predictions = start_service(kit).predict(MODEL, ROWS)
    assert predictions["probability"].to_list() == predict_probabilities(model, ROWS)
    assert predictions["value"].to_list() == load(model).predict(ROWS).values


def test_the_journal_contains_the_inputs_and_the_predictions(kit: ServingKit) -> None:
    kit.route(kit.arm(3, package()))
    predictions = start_service(kit).predict(MODEL, ROWS.with_columns(extra=pl.lit("ignored")))
    journaled = kit.predictions()
    assert journaled.equals(predictions)
    assert set(journaled.columns) == set(Prediction.__struct_fields__) - {"regime"}, "no key names the regimes"
    assert dict(journaled.schema) == {
        "known_at": pl.Datetime("us", "UTC"),
        "id": pl.String(),
        "release": pl.String(),
        "version": pl.Int64(),
        "role": pl.String(),
        "key": pl.String(),
        "time": pl.Datetime("us", "UTC"),
        "value": pl.String(),
        "probability": pl.List(pl.Float64),
        "milliseconds": pl.Float64(),
        "features": pl.Struct({"carrier": pl.String, "distance": pl.Float64, "delay": pl.Int64}),
    }
    assert journaled["known_at"].unique().to_list() == [NOW]
    assert journaled.select("release", "version", "role").unique().rows() == [("flights/3", 3, "champion")]
    assert journaled["key"].to_list() == [f"{c}|{f}" for c, f in ROWS.select("carrier", "flight").rows()]
    assert journaled["time"].equals(ROWS["when"])
    assert journaled["features"].struct.unnest().equals(ROWS.select("carrier", "distance", "delay"))
    assert journaled["id"].n_unique() == ROWS.height
    assert journaled["id"].str.slice(14, 1).unique().to_list() == ["7"]


def test_a_backtest_sets_the_request_time_of_each_row(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    requested = ROWS["when"] - timedelta(hours=1)
    predictions = start_service(kit).predict(MODEL, ROWS.drop("when"), known_at=requested)
    assert predictions["known_at"].to_list() == requested.to_list()
    assert predictions["time"].to_list() == requested.to_list()


def test_a_challenger_gets_its_share_and_rows_keep_their_order(kit: ServingKit) -> None:
    first, second = package(1), package(2)
    kit.route(kit.arm(1, first), kit.arm(2, second, "challenger", 0.3))
    serving = start_service(kit)
    predictions = serving.predict(MODEL, ROWS)
    expected = {"flights/1": predict_probabilities(first, ROWS), "flights/2": predict_probabilities(second, ROWS)}
    assert predictions["probability"].to_list() == [
        expected[release][index] for index, release in enumerate(predictions["release"])
    ]
    assert predictions["key"].to_list() == [f"{c}|{f}" for c, f in ROWS.select("carrier", "flight").rows()]
    assert (predictions["release"] == "flights/2").mean() == pytest.approx(0.3, abs=0.1)
    assert serving.predict(MODEL, ROWS)["release"].equals(predictions["release"])
    assert kit.predictions().height == 2 * ROWS.height


def test_a_shadow_predicts_every_row_and_none_is_in_the_reply(kit: ServingKit) -> None:
    shadow = package(2)
    kit.route(kit.arm(1, package(1)), kit.arm(2, shadow, "shadow"))
    predictions = start_service(kit).predict(MODEL, ROWS)
    journaled = kit.predictions()
    scored = journaled.filter(pl.col("role") == "shadow")
    assert predictions["role"].unique().to_list() == ["champion"]
    assert scored["probability"].to_list() == predict_probabilities(shadow, ROWS)
    assert scored["id"].to_list() == predictions["id"].to_list()


@pytest.mark.parametrize("spoil", [raising, predicting_nan, lambda model: requiring(model, "weather")])
@pytest.mark.parametrize("role", ["challenger", "shadow"])
def test_the_champion_predicts_for_an_arm_that_fails(kit: ServingKit, spoil, role) -> None:  # type: ignore[no-untyped-def]
    champion = package(1)
    kit.route(kit.arm(1, champion), kit.arm(2, spoil(package(2)), role, 0.5))
    serving = start_service(kit)
    predictions = serving.predict(MODEL, ROWS)
    assert predictions["probability"].to_list() == predict_probabilities(champion, ROWS)
    assert kit.predictions()["release"].unique().to_list() == ["flights/1"]
    assert serving.metrics.value("tidemill_failures_total", release="flights/2", role=role) > 0
    failures = kit.workspace.journal.read(f"failures/{MODEL}")
    assert set(failures.columns) == set(Failure.__struct_fields__)
    assert failures.select("release", "role").unique().rows() == [("flights/2", role)]
    assert set(failures["id"]) <= set(predictions["id"])
    assert failures["id"].is_unique().all()


@pytest.mark.parametrize(("spoil", "problem"), [(predicting_nan, "predicted NaN for 300 of 300"), (raising, "carrier")])
def test_a_champion_that_fails_is_an_error_and_leaves_no_rows(kit: ServingKit, spoil, problem: str) -> None:  # type: ignore[no-untyped-def]
    kit.route(kit.arm(1, spoil(package())))
    serving = start_service(kit)
    with pytest.raises(TidemillError, match=problem):
        serving.predict(MODEL, ROWS)
    assert kit.predictions().is_empty()
    assert serving.metrics.value("tidemill_failures_total", release="flights/1", role="champion") == 300
    assert kit.workspace.journal.read(f"failures/{MODEL}")["release"].to_list() == ["flights/1"] * 300


def test_rows_that_do_not_fit_the_champion_are_refused(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()), kit.arm(2, package(2), "challenger", 1.0))
    serving = start_service(kit)
    with pytest.raises(DataError, match="no column 'distance'"):
        serving.predict(MODEL, ROWS.drop("distance"))
    with pytest.raises(DataError, match="row 0: column 'delay' should be of type integer"):
        serving.predict(MODEL, ROWS.with_columns(delay=pl.lit("late")))
    assert kit.predictions().is_empty()
    assert serving.metrics.value("tidemill_failures_total", release="flights/2", role="challenger") == 0
    assert kit.workspace.journal.kinds() == [], "rows that do not fit are an error of the caller"


def test_views_of_the_release_are_looked_up(kit: ServingKit) -> None:
    view = FeatureView(name="airline", entity=Entity("airline", ("carrier",)), source="airlines", columns=("delay",))
    features = FeatureSet(request=("distance",), views=(view,))
    rows = history().with_columns(airline_delay=pl.col("delay").cast(pl.Float64))
    model = package(names=("distance", "airline_delay"), frame=rows, features=features)
    kit.route(kit.arm(1, model))
    kit.workspace.online.write("airline", [("UA", NOW, {"delay": 50.0, "airline_delay": 50.0})])
    requested = pl.DataFrame({"carrier": ["UA", "XX"], "distance": [100.0, 100.0]})
    predictions = start_service(kit).predict(MODEL, requested)
    assert predictions["features"].struct.field("airline_delay").to_list() == [50.0, None]
    sent = start_service(kit).predict(MODEL, requested.with_columns(airline_delay=pl.Series([7, 8])))
    assert sent["features"].struct.field("airline_delay").to_list() == [7.0, 8.0]


def test_a_regression_has_values_and_no_probabilities(kit: ServingKit) -> None:
    model = package(task="regression")
    kit.route(kit.arm(1, model))
    predictions = start_service(kit).predict(MODEL, ROWS)
    assert predictions["value"].to_list() == load(model).predict(ROWS).values
    assert predictions.schema["probability"] == pl.List(pl.Float64)
    assert predictions["probability"].null_count() == ROWS.height


def test_no_rows_give_no_predictions(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    predictions = start_service(kit).predict(MODEL, ROWS.clear())
    assert predictions.height == 0
    assert predictions.columns[-1] == "features"


def test_a_new_release_predicts_after_a_refresh(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package(1)))
    serving = start_service(kit)
    kit.route(kit.arm(2, package(2)))
    assert serving.predict(MODEL, ROWS)["release"].unique().to_list() == ["flights/1"]
    serving.refresh()
    assert serving.predict(MODEL, ROWS)["release"].unique().to_list() == ["flights/2"]


def _altered(kit: ServingKit, model: Model) -> str:
    digest = kit.packages.save(model)
    [file] = Path(kit.workspace.url("blobs")).rglob(digest)
    file.write_bytes(file.read_bytes().replace(b"leaf_value", b"leaf_valve"))
    return digest


@pytest.mark.parametrize(
    ("create_arm", "problem"),
    [
        (lambda kit: kit.arm(2, package(2, samples=[{"distance": 1.0, "delay": "late"}])), "column 'delay'"),
        (lambda kit: kit.arm(2, predicting_nan(package(2, samples=[{"distance": 1.0}]))), "NaN"),
        (lambda kit: kit.arm(2, raising(package(2, samples=[{"distance": 1.0, "carrier": "UA"}]))), "carrier"),
        (lambda kit: kit.arm(2, package(2, task="regression"), "challenger", 0.5), "champion"),
    ],
)
def test_the_old_route_stays_where_the_new_one_cannot_be_loaded(kit: ServingKit, create_arm, problem: str) -> None:  # type: ignore[no-untyped-def]
    champion = kit.arm(1, package())
    kit.route(champion)
    serving = start_service(kit)
    arm = create_arm(kit)
    kit.route(*((arm,) if arm.role == "champion" else (champion, arm)))
    serving.refresh()
    assert problem in serving.failures[MODEL].problem
    assert serving.predict(MODEL, ROWS)["release"].unique().to_list() == ["flights/1"]
    kit.route(kit.arm(3, package(3)))
    serving.refresh()
    assert serving.failures == {}
    assert serving.predict(MODEL, ROWS)["release"].unique().to_list() == ["flights/3"]


def test_a_package_that_was_altered_is_not_served(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    model = package(2)
    arm = kit.arm(2, model)
    _altered(kit, model)
    serving = start_service(kit)
    kit.route(arm)
    serving.refresh()
    assert "release flights/2 cannot be loaded" in serving.failures[MODEL].problem
    assert "altered" in serving.failures[MODEL].problem
    assert serving.predict(MODEL, ROWS)["release"].unique().to_list() == ["flights/1"]


def test_unknown_withdrawn_and_unloadable_models_have_their_own_errors(kit: ServingKit) -> None:
    serving = start_service(kit)
    with pytest.raises(Transient, match="no model is loaded"):
        serving.predict(MODEL, ROWS)
    kit.route(kit.arm(1, package()))
    serving.refresh()
    with pytest.raises(NotFound, match="'trains'") as unknown:
        serving.predict("trains", ROWS)
    assert MODEL in unknown.value.cure
    kit.route()
    serving.refresh()
    with pytest.raises(Transient, match="withdrawn"):
        serving.predict(MODEL, ROWS)
    arm = kit.arm(1, package(), "challenger", 1.0)
    kit.route(arm, model="trains")
    serving.refresh()
    with pytest.raises(Transient, match="could be loaded"):
        serving.predict("trains", ROWS)


def test_labels_are_converted_to_rows_of_the_journal(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    serving = start_service(kit)
    when = datetime(2013, 5, 1, tzinfo=UTC)
    frame = pl.DataFrame({"value": [True, False], "id": ["a", None], "key": [None, "UA|1"], "time": [None, when]})
    assert serving.add_labels(MODEL, frame) == 2
    assert kit.labels().rows() == [(NOW, "a", "", None, "true"), (NOW, "", "UA|1", when, "false")]
    serving.add_labels(MODEL, pl.DataFrame({"value": [1.0, 0.0], "id": ["a", "b"], "known_at": [when, when]}))
    assert kit.labels().filter(pl.col("known_at") == when)["value"].to_list() == ["true", "false"]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"id": ["a"]}, "no column 'value'"),
        ({"value": [None], "id": ["a"]}, "label 0 has no value"),
        ({"value": ["true"]}, "label 0 names no prediction"),
        ({"value": ["true"], "key": ["UA|1"]}, "label 0 names no prediction"),
    ],
)
def test_labels_without_a_value_or_a_row_are_refused(kit: ServingKit, columns, problem: str) -> None:  # type: ignore[no-untyped-def]
    kit.route(kit.arm(1, package()))
    with pytest.raises(DataError, match=problem):
        start_service(kit).add_labels(MODEL, pl.DataFrame(columns))
    assert kit.labels().is_empty()


def test_a_label_of_a_class_that_only_the_challenger_has_is_accepted(kit: ServingKit) -> None:
    newer = package(2)
    signature = replace(newer.manifest.signature, classes=("false", "later"))
    newer = replace(newer, manifest=replace(newer.manifest, signature=signature))
    kit.route(kit.arm(1, package()), kit.arm(2, newer, "challenger", 0.5))
    serving = start_service(kit)
    serving.add_labels(MODEL, pl.DataFrame({"value": ["later", "true"], "id": ["a", "b"]}))
    assert kit.labels()["value"].to_list() == ["later", "true"]
    with pytest.raises(DataError, match="label 0 is 'never'") as refused:
        serving.add_labels(MODEL, pl.DataFrame({"value": ["never"], "id": ["a"]}))
    assert "'false', 'true', 'later'" in refused.value.cure


def test_labels_of_a_regression_are_numbers(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package(task="regression")))
    serving = start_service(kit)
    serving.add_labels(MODEL, pl.DataFrame({"value": [3], "id": ["a"]}))
    assert kit.labels()["value"].to_list() == [3.0]
    for wrong in (pl.Series(["late"]), pl.Series([float("inf")]), pl.Series([True])):
        with pytest.raises(DataError, match="number"):
            serving.add_labels(MODEL, pl.DataFrame({"value": wrong, "id": ["a"]}))


def test_releases_with_different_inputs_share_one_journal(kit: ServingKit) -> None:
    wider = package(2, names=("carrier", "distance", "delay", "when"))
    kit.route(kit.arm(1, package(1)), kit.arm(2, wider, "challenger", 0.5))
    predictions = start_service(kit).predict(MODEL, ROWS)
    assert kit.predictions().height == ROWS.height
    seen = predictions.filter(pl.col("release") == "flights/2")["features"].struct.field("when")
    assert seen.null_count() == 0
    assert seen.len() > 0


def test_the_system_s_clock_sets_the_request_time(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    serving = Service(kit.workspace.board, kit.packages, kit.workspace.journal, None, SystemClock())
    serving.refresh()
    before = datetime.now(UTC)
    assert before <= serving.predict(MODEL, ROWS)["known_at"][0] <= datetime.now(UTC)
