"""The training recipe, from a table to a release in production."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.blobs.artifacts import read_artifact
from tidemill.compose.session import open_session
from tidemill.core.policy import Inputs, Search, Watch
from tidemill.errors import DataError, Stopped
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.models.load import load
from tidemill.project.project import Project
from tidemill.registry.routing import find_current_route
from tidemill.training.tune import SearchResult

TARIFFS = '[sources.tariffs]\npath = "data/tariffs.csv"\ntime = "since"\n'
VIEW = """
from tidemill import Entity, FeatureView

tariff = FeatureView(name="tariff", entity=Entity("carrier", ("carrier",)), source="tariffs", columns=("level",))
"""


def train(session: Session) -> str:
    done, failed = run(session, session.project.code.pipeline("training"))
    if failed:
        raise failed
    return done.id


@pytest.fixture
def shop(tmp_path: Path) -> Session:
    return open_session(make_project(tmp_path / "shop"))


def test_the_first_release_is_in_production_at_once(shop: Session) -> None:
    train(shop)
    route = find_current_route(shop.workspace.ledger, "production", "shop")
    assert route is not None
    assert [(arm.release, arm.role, arm.share) for arm in route.arms] == [("shop/1", "champion", 1.0)]
    assert shop.workspace.board.routes()["shop"] == route
    model = shop.packages.load(route.arms[0].package)
    assert model.manifest.key == ("order_id",)
    assert {"test_log_loss", "train_log_loss", "test_roc_auc"} <= set(model.manifest.metrics)
    predictions = load(model).predict(pl.DataFrame({"distance_km": [900.0], "items": [8], "carrier": ["thrifty"]}))
    assert predictions.probabilities is not None
    assert predictions.probabilities[0, 1] > 0.5


def test_the_test_rows_are_the_newest_and_unseen(shop: Session) -> None:
    """The judged candidate is trained on rows before the test rows; only the refit is trained on all rows."""
    train(shop)
    metrics = shop.workspace.ledger.runs.find(pipeline="training")[0].metrics
    assert metrics["test_roc_auc"] > 0.65
    release = shop.workspace.ledger.releases.find(name="shop")[0]
    newest = pl.read_csv(shop.project.folder / "data" / "shop.csv", try_parse_dates=True)["ordered"].max()
    assert release.data["trained_until"][:19] == str(newest)[:19].replace(" ", "T")


def test_the_same_training_again_is_cached(shop: Session) -> None:
    train(shop)
    train(shop)  # there is a champion to compare with now
    third = train(shop)
    states = {step.step: step.state for step in shop.workspace.ledger.steps.find(run=third)}
    assert states["fit"] == states["measure_on"] == states["gate"] == states["fit-2"] == "cached"
    assert states["read_labelled"] == states["join_views"] == "skipped"


def test_a_changed_source_in_the_policy_runs_the_cached_steps_again(shop: Session) -> None:
    policy = shop.project.policy
    policy = replace(policy, models={"shop": replace(policy.models["shop"], inputs=Inputs())})
    train(open_session(Project(shop.project.folder, policy)))
    rows = replace(policy.sources["rows"], later=("items",))
    again = open_session(Project(shop.project.folder, replace(policy, sources={"rows": rows})))
    with pytest.raises(Stopped, match="input 'items' is missing"):
        train(again)


def test_a_new_gate_or_watch_does_not_fit_again(shop: Session) -> None:
    train(shop)
    policy = shop.project.policy
    model = policy.models["shop"]
    other = replace(model, gate=replace(model.gate, baseline_margin=0.001), watch=Watch())
    project = Project(shop.project.folder, replace(policy, models={"shop": other}))
    shop = open_session(project)
    states = {step.step: step.state for step in shop.workspace.ledger.steps.find(run=train(shop))}
    assert states["fit"] == states["fit-2"] == "cached"
    assert states["gate"] == "ran"


def test_a_champion_is_not_compared_on_its_training_rows(shop: Session) -> None:
    train(shop)
    train(shop)
    verdict = shop.workspace.ledger.verdicts.find(check="gate")[-1]
    assert (verdict.outcome, verdict.action) == ("warn", "proceed")
    assert "live traffic" in verdict.reason


def test_a_second_release_is_a_canary_first(shop: Session) -> None:
    train(shop)
    grow(shop)
    train(shop)
    route = find_current_route(shop.workspace.ledger, "production", "shop")
    assert route is not None
    assert [(arm.release, arm.role, round(arm.share, 6)) for arm in route.arms] == [
        ("shop/1", "champion", 0.05),
        ("shop/2", "challenger", 0.95),
        ("shop/2", "shadow", 0.0),
        ("shop/1", "shadow", 0.0),
    ]
    assert route.reason == "canary of 95%: it differs from shop/1 only in the rows that it has learned"


def test_without_a_gate_the_rounds_are_chosen_too(tmp_path: Path) -> None:
    """A policy without a gate is a fair comparison: its rounds are chosen by early stopping, too."""
    session = open_session(make_project(tmp_path / "shop", replace={"[gate] ": "[gate]\nenabled = false\n#"}))
    train(session)
    (released,) = session.workspace.ledger.releases.find(name="shop")
    assert 0 < released.data["iterations"] < session.project.model("shop").training.rounds


@pytest.mark.parametrize("early_stopping", [0, 30])
def test_without_measurement_one_model_is_fitted_for_the_release(tmp_path: Path, early_stopping: int) -> None:
    """Rounds are chosen on validation rows as with a measurement; the model that is released has no metrics."""
    options = {
        "[gate] ": "[gate]\nenabled = false\nmeasure = false\n#",
        "[training]": f"[training]\nearly_stopping = {early_stopping}",
        'value = "log_loss"': 'value = "age"',
    }
    session = open_session(make_project(tmp_path / "shop", replace=options))
    train(session)
    ledger = session.workspace.ledger
    (released,) = ledger.releases.find(name="shop")
    steps = [step.step for step in ledger.steps.find(run=released.run)]
    assert released.metrics == {}
    assert sum(name.startswith("fit") for name in steps) == (2 if early_stopping else 1)
    assert (released.data["iterations"] < session.project.model("shop").training.rounds) == bool(early_stopping)
    assert find_current_route(ledger, "production", "shop") is not None


def test_without_a_gate_a_release_is_measured_and_can_be_watched(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop", replace={"[gate] ": "[gate]\nenabled = false\n#"}))
    train(session)
    (released,) = session.workspace.ledger.releases.find(name="shop")
    assert 0 < released.metrics["test_log_loss"] < released.metrics["baseline_log_loss"]
    assert not session.workspace.ledger.verdicts.find(check="gate")
    done, failed = run(session, session.project.code.pipeline("watching"), {})
    assert (done.state, failed) == ("done", None)


def test_late_rows_of_a_view_lead_to_another_model(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", replace={"[inputs]": TARIFFS + "\n[inputs]\nviews = ['tariff']"})
    (project.folder / "features.py").write_text(VIEW)
    tariffs = project.folder / "data" / "tariffs.csv"
    tariffs.write_text("carrier,since,level\nsteady,2025-12-01T00:00:00Z,1\nthrifty,2025-12-01T00:00:00Z,2\n")
    train(open_session(Project(project.folder)))
    train(open_session(Project(project.folder)))
    tariffs.write_text(tariffs.read_text() + "thrifty,2026-01-15T00:00:00Z,5\n")
    session = open_session(Project(project.folder))
    states = {step.step: step.state for step in session.workspace.ledger.steps.find(run=train(session))}
    assert states["fit"] == "ran"
    again = open_session(Project(project.folder))
    assert {step.step: step.state for step in again.workspace.ledger.steps.find(run=train(again))}["fit"] == "cached"


def test_the_package_has_the_schema_that_it_was_trained_under(shop: Session) -> None:
    train(shop)
    (schema,) = shop.workspace.ledger.schemas.find(source="rows")
    (released,) = shop.workspace.ledger.releases.find(name="shop")
    columns = shop.packages.load(released.package).manifest.columns
    assert columns == schema.schema.columns
    assert {column.name: column.high for column in columns}["items"] is not None


def serve_and_label(session: Session, labels: list[str | float], keys: list[str] | None = None) -> None:
    """Write a served row of the first release and its label to the journal, for each of the labels."""
    release = session.workspace.ledger.releases.find(name="shop")[0]
    later = datetime.fromisoformat(release.data["trained_until"]) + timedelta(days=1)
    served = pl.DataFrame({"id": [f"p{number}" for number in range(len(labels))]}).with_columns(
        pl.lit(release.label).alias("release"),
        pl.lit("champion").alias("role"),
        pl.Series("key", keys or [""] * len(labels)),
        pl.lit(later).cast(pl.Datetime("us", "UTC")).alias("time"),
        pl.lit(later).cast(pl.Datetime("us", "UTC")).alias("known_at"),
        pl.struct(distance_km=pl.lit(700.0), items=pl.lit(3), carrier=pl.lit("thrifty")).alias("features"),
    )
    session.workspace.journal.append("predictions/shop", served)
    rows = served.select("id", pl.lit("").alias("key"), "time", "known_at", pl.Series("value", labels))
    session.workspace.journal.append("labels/shop", rows)


def open_with_feedback(folder: Path) -> Session:
    """A shop that also learns from served rows, after its first training."""
    session = open_session(make_project(folder, replace={'test = "14d"': 'test = "14d"\nfeedback = true'}))
    train(session)
    return session


def test_feedback_adds_served_and_labelled_rows(tmp_path: Path) -> None:
    session = open_with_feedback(tmp_path / "shop")
    first = session.workspace.ledger.releases.find(name="shop")[0]
    serve_and_label(session, ["true"] * 50)
    train(session)
    second = session.workspace.ledger.releases.find(name="shop")[-1]
    assert second.data["rows"] == first.data["rows"] + 50


def test_feedback_for_a_row_of_the_source_is_not_another_row(tmp_path: Path) -> None:
    session = open_with_feedback(tmp_path / "shop")
    first = session.workspace.ledger.releases.find(name="shop")[0]
    known = pl.read_csv(session.project.folder / "data" / "shop.csv")["order_id"].head(30).to_list()
    serve_and_label(session, ["true"] * 60, [*known, *(f"n{number // 2}" for number in range(30))])
    train(session)
    second = session.workspace.ledger.releases.find(name="shop")[-1]
    assert second.data["rows"] == first.data["rows"] + 15


def grow(shop: Session) -> None:
    """Add another file of rows, three months later."""
    file = shop.project.folder / "data" / "shop.csv"
    older = pl.read_csv(file, try_parse_dates=True)
    new_ids = (pl.lit("n") + pl.col("order_id")).alias("order_id")
    newer = older.with_columns(pl.col("ordered").dt.offset_by("90d"), new_ids)
    newer.select(older.columns).write_csv(file.with_name("more.csv"))
    policy = shop.project.policy
    sources = {"rows": replace(policy.sources["rows"], path="data/*.csv")}
    shop.project.policy = replace(policy, sources=sources)
    shop.sources._sources["rows"] = sources["rows"]  # type: ignore[attr-defined]  # as a new session would read it


def test_a_release_waits_for_its_approval(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop", replace={"share = 0.2\n": "share = 0.2\napproval = true\n"}))
    train(session)
    assert find_current_route(session.workspace.ledger, "production", "shop") is None
    assert session.workspace.ledger.events.find(kind="approval.needed")[0].subject == "shop/1"


def test_without_a_watch_nothing_goes_live(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop"))
    model = session.project.policy.models["shop"]
    unwatched = {"shop": replace(model, watch=replace(model.watch, values=()))}
    session.project.policy = replace(session.project.policy, models=unwatched)
    train(session)
    assert find_current_route(session.workspace.ledger, "production", "shop") is None
    assert session.workspace.ledger.events.find(kind="watch.missing")


def test_shuffled_labels_do_not_pass_the_gate(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop"))
    file = session.project.folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    rows.with_columns(pl.col("late").shuffle(seed=3)).write_csv(file)
    with pytest.raises(Stopped, match="trivial baseline"):
        train(session)
    assert session.workspace.ledger.runs.find(pipeline="training")[0].state == "stopped"
    assert not session.workspace.ledger.releases.find()


def test_an_unreadable_file_is_stopped_and_the_other_files_are_accepted(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", replace={'path = "data/shop.csv"': 'path = "data/*"'})
    good = pl.read_csv(project.folder / "data" / "shop.csv")
    for name, content in {"0.csv": b"", "cut.jsonl": b'{"order_id": 1, ', "cut.parquet": b"PAR1 and nothing"}.items():
        (project.folder / "data" / name).write_bytes(content)
    good.with_columns(pl.format("other {}", "order_id").alias("order_id")).write_csv(project.folder / "data" / "zz.csv")
    session = open_session(project)
    _, failed = run(session, session.project.code.pipeline("ingestion"))
    assert isinstance(failed, Stopped)
    verdicts = session.workspace.ledger.verdicts.find(check="schema")
    assert sorted((verdict.action, verdict.evidence["rows"]) for verdict in verdicts) == [
        ("proceed", good.height),
        ("proceed", good.height),
        *[("stop", 0)] * 3,
    ]
    stopped = [verdict.reason for verdict in verdicts if verdict.stops]
    assert all("it cannot be read" in reason for reason in stopped)
    assert run(session, session.project.code.pipeline("ingestion"))[1] is None  # each file is reported once


@pytest.mark.parametrize(
    ("time", "message"), [("orderd", "without a column 'orderd'"), ("shipped", "another time than")]
)
def test_rows_that_were_accepted_with_another_time_are_refused(tmp_path: Path, time: str, message: str) -> None:
    folder = make_project(tmp_path / "shop").folder
    table = folder / "data" / "shop.csv"
    rows = pl.read_csv(table, try_parse_dates=True)
    rows.with_columns(shipped=pl.col("ordered").dt.offset_by("1d")).write_csv(table)
    train(open_session(Project(folder)))
    policy = folder / "tidemill.toml"
    policy.write_text(policy.read_text().replace('time = "ordered"', f'time = "{time}"'))
    with pytest.raises(DataError, match=message) as error:
        train(open_session(Project(folder)))
    assert "another name" in error.value.cure


def test_a_column_of_another_type_stops_the_training(shop: Session) -> None:
    train(shop)
    file = shop.project.folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    rows.with_columns(pl.col("distance_km").cast(pl.String) + " km").write_csv(file)
    with pytest.raises(Stopped, match="distance_km"):
        train(shop)
    # The next training uses the rows that were accepted before.
    train(shop)


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_other_tasks(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "shop"
    session = open_session(make_project(folder))
    file = folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    if task == "regression":
        target = pl.col("distance_km") * 0.1 + pl.col("items")
    else:
        target = pl.when(pl.col("distance_km") < 250).then(pl.lit("near")).otherwise(pl.col("carrier"))
    rows.with_columns(target.alias("late")).write_csv(file)
    text = (folder / "tidemill.toml").read_text()
    if task == "regression":
        text = text.replace('"classification"', '"regression"').replace('"log_loss"', '"rmse"')
    (folder / "tidemill.toml").write_text(text)
    session = open_session(type(session.project)(folder))
    train(session)
    metrics = session.workspace.ledger.releases.find()[0].metrics
    assert metrics["test_r2"] > 0.9 if task == "regression" else metrics["test_error_rate"] < 0.1


@pytest.mark.parametrize(("rows", "excluded"), [(40, 40), (100_000, None)])
def test_a_class_of_the_newest_rows_only_does_not_stop_the_training(
    tmp_path: Path, rows: int, excluded: int | None
) -> None:
    session = open_session(make_project(tmp_path / "shop"))
    file = session.project.folder / "data" / "shop.csv"
    table = pl.read_csv(file, try_parse_dates=True).sort("ordered")
    in_test = pl.col("ordered") > pl.col("ordered").max() - pl.duration(days=14)
    newest = in_test & (pl.int_range(table.height) >= table.height - rows)
    table.with_columns(late=pl.when(newest).then(pl.lit("lost")).otherwise(pl.col("late"))).write_csv(file)
    if excluded is None:
        with pytest.raises(DataError, match="a class that the model was not trained on"):
            train(session)
        return
    train(session)
    (verdict,) = session.workspace.ledger.verdicts.find(check="gate")
    assert verdict.outcome == "warn"
    assert f"{excluded} of" in verdict.reason
    assert "(lost)" in verdict.reason
    (release,) = session.workspace.ledger.releases.find(name="shop")
    assert session.packages.load(release.package).manifest.signature.classes == ("false", "true")
    assert release.data["rows"] == table.height - excluded


def test_another_estimator(tmp_path: Path) -> None:
    estimator = 'test = "14d"\nestimator = "sklearn.linear_model:LogisticRegression"\n'
    folder = tmp_path / "shop"
    session = open_session(make_project(folder, replace={'test = "14d"': estimator}))
    train(session)
    assert session.workspace.ledger.releases.find()[0].flavor == "sklearn"


def test_a_misspelt_slice_is_reported_before_the_fit(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop", replace={"[gate] ": '[gate]\nslices = ["carier"]\n#'}))
    with pytest.raises(DataError, match="no column 'carier' to slice by") as error:
        train(session)
    assert "carrier" in error.value.cure
    assert "fit" not in {step.step for step in session.workspace.ledger.steps.find()}


def test_too_few_rows_are_an_error(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop"))
    file = session.project.folder / "data" / "shop.csv"
    pl.read_csv(file, try_parse_dates=True).head(20).write_csv(file)
    with pytest.raises(DataError, match="only 20 labelled rows"):
        train(session)


def test_a_search_stores_its_trials_and_fits_the_best(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    session = open_session(make_project(tmp_path / "shop"))
    model = session.project.policy.models["shop"]
    searched = replace(model, training=replace(model.training, rounds=20, search=Search(trials=3)))
    session.project.policy = replace(session.project.policy, models={"shop": searched})
    done = train(session)
    (step,) = session.workspace.ledger.steps.find(run=done, step="search")
    tuned = read_artifact(
        session.workspace.blobs, session.workspace.ledger.artifacts.get(next(iter(step.outputs.values()))), SearchResult
    )
    assert len(tuned.trials) == 4
    assert tuned.loss == min(trial.loss for trial in tuned.trials if trial.loss is not None)
    assert {"validation", "train", "encoding"} == set(step.inputs) - {"policy"}, "the search gets no test rows"
    release = session.workspace.ledger.releases.find(name="shop")[0]
    model_text = session.packages.load(release.package).files["model.txt"].decode()
    assert all(f"[{name}: " in model_text for name in tuned.params)
