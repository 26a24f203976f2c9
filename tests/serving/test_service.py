"""Rows are answered by who is routed, exactly as the model says, and all of it is in the journal."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.serving.kit import MODEL, Mill, answering_nan, history, package, raising, taking
from tidemill.clock import SystemClock, VirtualClock
from tidemill.core.feature import Entity, FeatureSet, FeatureView
from tidemill.core.model import Model
from tidemill.core.prediction import Prediction
from tidemill.errors import DataError, NotFound, TidemillError, Transient
from tidemill.featurestore.lookup import Lookup
from tidemill.models.load import load
from tidemill.serving.service import Service

NOW = datetime(2013, 6, 1, tzinfo=UTC)
ROWS = history(300, seed=9)


def service(mill: Mill) -> Service:
    made = Service(
        mill.workspace.board,
        mill.packages,
        mill.workspace.journal,
        Lookup(mill.workspace.online),
        VirtualClock(NOW),
    )
    made.refresh()
    return made


def said(model: Model, rows: pl.DataFrame) -> list[list[float]]:
    table = load(model).predict(rows).probabilities
    assert table is not None
    answers: list[list[float]] = table.tolist()
    return answers


def test_answers_are_the_model_s_own(mill: Mill) -> None:
    model = package()
    mill.route(mill.arm(1, model))
    answers = service(mill).answer(MODEL, ROWS)
    assert answers["probability"].to_list() == said(model, ROWS)
    assert answers["value"].to_list() == load(model).predict(ROWS).values


def test_the_journal_holds_what_was_asked_and_answered(mill: Mill) -> None:
    mill.route(mill.arm(3, package()))
    answers = service(mill).answer(MODEL, ROWS.with_columns(extra=pl.lit("ignored")))
    kept = mill.predictions()
    assert kept.equals(answers)
    assert set(kept.columns) == set(Prediction.__struct_fields__)
    assert dict(kept.schema) == {
        "known_at": pl.Datetime("us", "UTC"),
        "id": pl.String(),
        "release": pl.String(),
        "version": pl.Int64(),
        "role": pl.String(),
        "key": pl.String(),
        "time": pl.Datetime("us", "UTC"),
        "value": pl.String(),
        "probability": pl.List(pl.Float64),
        "features": pl.Struct({"carrier": pl.String, "distance": pl.Float64, "delay": pl.Int64}),
    }
    assert kept["known_at"].unique().to_list() == [NOW]
    assert kept.select("release", "version", "role").unique().rows() == [("flights/3", 3, "champion")]
    assert kept["key"].to_list() == [f"{c}|{f}" for c, f in ROWS.select("carrier", "flight").rows()]
    assert kept["time"].equals(ROWS["when"])
    assert kept["features"].struct.unnest().equals(ROWS.select("carrier", "distance", "delay"))
    assert kept["id"].n_unique() == ROWS.height
    assert kept["id"].str.slice(14, 1).unique().to_list() == ["7"]


def test_a_backtest_says_when_each_row_was_asked(mill: Mill) -> None:
    mill.route(mill.arm(1, package()))
    asked = ROWS["when"] - timedelta(hours=1)
    answers = service(mill).answer(MODEL, ROWS.drop("when"), known_at=asked)
    assert answers["known_at"].to_list() == asked.to_list()
    assert answers["time"].to_list() == asked.to_list()


def test_a_challenger_gets_its_share_and_rows_keep_their_order(mill: Mill) -> None:
    first, second = package(1), package(2)
    mill.route(mill.arm(1, first), mill.arm(2, second, "challenger", 0.3))
    serving = service(mill)
    answers = serving.answer(MODEL, ROWS)
    own = {"flights/1": said(first, ROWS), "flights/2": said(second, ROWS)}
    assert answers["probability"].to_list() == [own[r][place] for place, r in enumerate(answers["release"])]
    assert answers["key"].to_list() == [f"{c}|{f}" for c, f in ROWS.select("carrier", "flight").rows()]
    assert (answers["release"] == "flights/2").mean() == pytest.approx(0.3, abs=0.1)
    assert serving.answer(MODEL, ROWS)["release"].equals(answers["release"])
    assert mill.predictions().height == 2 * ROWS.height


def test_a_shadow_is_scored_on_every_row_and_answers_none(mill: Mill) -> None:
    shadow = package(2)
    mill.route(mill.arm(1, package(1)), mill.arm(2, shadow, "shadow"))
    answers = service(mill).answer(MODEL, ROWS)
    kept = mill.predictions()
    scored = kept.filter(pl.col("role") == "shadow")
    assert answers["role"].unique().to_list() == ["champion"]
    assert scored["probability"].to_list() == said(shadow, ROWS)
    assert scored["id"].to_list() == answers["id"].to_list()


@pytest.mark.parametrize("spoil", [raising, answering_nan, lambda model: taking(model, "weather")])
@pytest.mark.parametrize("role", ["challenger", "shadow"])
def test_the_champion_answers_for_another_arm_that_fails(mill: Mill, spoil, role) -> None:  # type: ignore[no-untyped-def]
    champion = package(1)
    mill.route(mill.arm(1, champion), mill.arm(2, spoil(package(2)), role, 0.5))
    serving = service(mill)
    answers = serving.answer(MODEL, ROWS)
    assert answers["probability"].to_list() == said(champion, ROWS)
    assert mill.predictions()["release"].unique().to_list() == ["flights/1"]
    assert serving.metrics.value("tidemill_failures_total", release="flights/2", role=role) > 0


@pytest.mark.parametrize(("spoil", "problem"), [(answering_nan, "answered NaN in 300 of 300"), (raising, "carrier")])
def test_a_champion_that_fails_is_an_error_and_leaves_no_rows(mill: Mill, spoil, problem: str) -> None:  # type: ignore[no-untyped-def]
    mill.route(mill.arm(1, spoil(package())))
    serving = service(mill)
    with pytest.raises(TidemillError, match=problem):
        serving.answer(MODEL, ROWS)
    assert mill.predictions().is_empty()
    assert serving.metrics.value("tidemill_failures_total", release="flights/1", role="champion") == 300


def test_rows_that_do_not_fit_the_champion_are_refused_whoever_would_answer(mill: Mill) -> None:
    mill.route(mill.arm(1, package()), mill.arm(2, package(2), "challenger", 1.0))
    serving = service(mill)
    with pytest.raises(DataError, match="no column 'distance'"):
        serving.answer(MODEL, ROWS.drop("distance"))
    with pytest.raises(DataError, match="row 0: column 'delay' should be of type integer"):
        serving.answer(MODEL, ROWS.with_columns(delay=pl.lit("late")))
    assert mill.predictions().is_empty()
    assert serving.metrics.value("tidemill_failures_total", release="flights/2", role="challenger") == 0


def test_views_of_the_release_are_looked_up(mill: Mill) -> None:
    view = FeatureView(name="airline", entity=Entity("airline", ("carrier",)), source="airlines", columns=("delay",))
    features = FeatureSet(request=("distance",), views=(view,))
    rows = history().with_columns(airline_delay=pl.col("delay").cast(pl.Float64))
    model = package(names=("distance", "airline_delay"), frame=rows, features=features)
    mill.route(mill.arm(1, model))
    mill.workspace.online.write("airline", [("UA", NOW, {"delay": 50.0, "airline_delay": 50.0})])
    asked = pl.DataFrame({"carrier": ["UA", "XX"], "distance": [100.0, 100.0]})
    answers = service(mill).answer(MODEL, asked)
    assert answers["features"].struct.field("airline_delay").to_list() == [50.0, None]
    brought = service(mill).answer(MODEL, asked.with_columns(airline_delay=pl.Series([7, 8])))
    assert brought["features"].struct.field("airline_delay").to_list() == [7.0, 8.0]


def test_a_regression_has_values_and_no_probabilities(mill: Mill) -> None:
    model = package(task="regression")
    mill.route(mill.arm(1, model))
    answers = service(mill).answer(MODEL, ROWS)
    assert answers["value"].to_list() == load(model).predict(ROWS).values
    assert answers.schema["probability"] == pl.List(pl.Float64)
    assert answers["probability"].null_count() == ROWS.height


def test_no_rows_are_no_answers(mill: Mill) -> None:
    mill.route(mill.arm(1, package()))
    answers = service(mill).answer(MODEL, ROWS.clear())
    assert answers.height == 0
    assert answers.columns[-1] == "features"


def test_a_new_release_answers_after_a_refresh(mill: Mill) -> None:
    mill.route(mill.arm(1, package(1)))
    serving = service(mill)
    mill.route(mill.arm(2, package(2)))
    assert serving.answer(MODEL, ROWS)["release"].unique().to_list() == ["flights/1"]
    serving.refresh()
    assert serving.answer(MODEL, ROWS)["release"].unique().to_list() == ["flights/2"]


def _altered(mill: Mill, model: Model) -> str:
    digest = mill.packages.save(model)
    [file] = Path(mill.workspace.url("blobs")).rglob(digest)
    file.write_bytes(file.read_bytes().replace(b"leaf_value", b"leaf_valve"))
    return digest


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda mill: mill.arm(2, package(2, samples=[{"distance": 1.0, "delay": "late"}])), "column 'delay'"),
        (lambda mill: mill.arm(2, answering_nan(package(2, samples=[{"distance": 1.0}]))), "NaN"),
        (lambda mill: mill.arm(2, raising(package(2, samples=[{"distance": 1.0, "carrier": "UA"}]))), "carrier"),
        (lambda mill: mill.arm(2, package(2, task="regression"), "challenger", 0.5), "champion"),
    ],
)
def test_a_route_that_cannot_be_taken_up_leaves_the_old_one(mill: Mill, make, problem: str) -> None:  # type: ignore[no-untyped-def]
    champion = mill.arm(1, package())
    mill.route(champion)
    serving = service(mill)
    arm = make(mill)
    mill.route(*((arm,) if arm.role == "champion" else (champion, arm)))
    serving.refresh()
    assert problem in serving.failures[MODEL].problem
    assert serving.answer(MODEL, ROWS)["release"].unique().to_list() == ["flights/1"]
    mill.route(mill.arm(3, package(3)))
    serving.refresh()
    assert serving.failures == {}
    assert serving.answer(MODEL, ROWS)["release"].unique().to_list() == ["flights/3"]


def test_a_package_that_was_altered_is_not_served(mill: Mill) -> None:
    mill.route(mill.arm(1, package()))
    model = package(2)
    arm = mill.arm(2, model)
    _altered(mill, model)
    serving = service(mill)
    mill.route(arm)
    serving.refresh()
    assert "altered" in serving.failures[MODEL].problem
    assert serving.answer(MODEL, ROWS)["release"].unique().to_list() == ["flights/1"]


def test_unknown_withdrawn_and_unloadable_models_say_so(mill: Mill) -> None:
    serving = service(mill)
    with pytest.raises(Transient, match="no model is loaded"):
        serving.answer(MODEL, ROWS)
    mill.route(mill.arm(1, package()))
    serving.refresh()
    with pytest.raises(NotFound, match="'trains'") as unknown:
        serving.answer("trains", ROWS)
    assert MODEL in unknown.value.cure
    mill.route()
    serving.refresh()
    with pytest.raises(Transient, match="withdrawn"):
        serving.answer(MODEL, ROWS)
    arm = mill.arm(1, package(), "challenger", 1.0)
    mill.route(arm, model="trains")
    serving.refresh()
    with pytest.raises(Transient, match="could be loaded"):
        serving.answer("trains", ROWS)


def test_labels_take_the_journal_s_form(mill: Mill) -> None:
    mill.route(mill.arm(1, package()))
    serving = service(mill)
    when = datetime(2013, 5, 1, tzinfo=UTC)
    frame = pl.DataFrame({"value": [True, False], "id": ["a", None], "key": [None, "UA|1"], "time": [None, when]})
    assert serving.labels(MODEL, frame) == 2
    assert mill.labels().rows() == [(NOW, "a", "", None, "true"), (NOW, "", "UA|1", when, "false")]
    serving.labels(MODEL, pl.DataFrame({"value": [1.0, 0.0], "id": ["a", "b"], "known_at": [when, when]}))
    assert mill.labels().filter(pl.col("known_at") == when)["value"].to_list() == ["1", "0"]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"id": ["a"]}, "no column 'value'"),
        ({"value": [None], "id": ["a"]}, "label 0 has no value"),
        ({"value": ["true"]}, "label 0 does not say"),
        ({"value": ["true"], "key": ["UA|1"]}, "label 0 does not say"),
    ],
)
def test_labels_that_say_too_little_are_refused(mill: Mill, columns, problem: str) -> None:  # type: ignore[no-untyped-def]
    mill.route(mill.arm(1, package()))
    with pytest.raises(DataError, match=problem):
        service(mill).labels(MODEL, pl.DataFrame(columns))
    assert mill.labels().is_empty()


def test_labels_of_a_regression_are_numbers(mill: Mill) -> None:
    mill.route(mill.arm(1, package(task="regression")))
    serving = service(mill)
    serving.labels(MODEL, pl.DataFrame({"value": [3], "id": ["a"]}))
    assert mill.labels()["value"].to_list() == [3.0]
    for wrong in (pl.Series(["late"]), pl.Series([float("inf")]), pl.Series([True])):
        with pytest.raises(DataError, match="number"):
            serving.labels(MODEL, pl.DataFrame({"value": wrong, "id": ["a"]}))


def test_releases_with_other_inputs_share_one_journal(mill: Mill) -> None:
    wider = package(2, names=("carrier", "distance", "delay", "when"))
    mill.route(mill.arm(1, package(1)), mill.arm(2, wider, "challenger", 0.5))
    answers = service(mill).answer(MODEL, ROWS)
    assert mill.predictions().height == ROWS.height
    seen = answers.filter(pl.col("release") == "flights/2")["features"].struct.field("when")
    assert seen.null_count() == 0
    assert seen.len() > 0


def test_the_system_s_clock_dates_answers(mill: Mill) -> None:
    mill.route(mill.arm(1, package()))
    serving = Service(mill.workspace.board, mill.packages, mill.workspace.journal, None, SystemClock())
    serving.refresh()
    before = datetime.now(UTC)
    assert before <= serving.answer(MODEL, ROWS)["known_at"][0] <= datetime.now(UTC)
