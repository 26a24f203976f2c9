"""Promised against observed: without a promise, after a change of the policy, and with served labelled rows."""

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from msgspec.structs import replace

from tests.backtest.test_search import make_result
from tests.projects import listed, make_project, tidemill
from tidemill.backtest.comparison import Period, TrainingStory
from tidemill.backtest.observed import compare_with_promise
from tidemill.backtest.observed_promotions import count_observed_wrong_promotions
from tidemill.backtest.promise import digest_effect, digest_tables, state_promise, store_promise
from tidemill.compose.session import open_session
from tidemill.core.backtest import Backtest
from tidemill.core.route import Arm, Route
from tidemill.daemon.pages import Pages
from tidemill.monitoring.windows import read_window
from tidemill.project.project import Project

_PERIOD = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 16, tzinfo=UTC))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with a model in production that has served 300 labelled rows."""
    folder = tmp_path_factory.mktemp("promise") / "shop"
    make_project(folder)
    tidemill(folder, "run", "training")
    project = Project(folder)
    session = open_session(project)
    rows = pl.read_csv(folder / "data" / "shop.csv", try_parse_dates=True).tail(300)
    from tidemill.compose.session import predict

    predictions = predict(session, rows.drop("late"))
    now = session.clock.now()
    labels = pl.DataFrame(
        {
            "known_at": [now] * rows.height,
            "id": predictions["id"],
            "key": [""] * rows.height,
            "time": predictions["time"],
            "value": rows["late"].cast(pl.String),
        }
    )
    session.workspace.journal.append("labels/shop", labels)
    return folder


def store(folder: Path, loss: float, trainings: int = 3) -> None:
    project = Project(folder)
    session = open_session(project)
    promise = state_promise(project.policy, "shop", make_result(loss, trainings), _PERIOD, session, by="backtest")
    store_promise(session, promise)


def get_status(folder: Path) -> dict[str, Any]:
    (status,) = listed(folder, "policy", "status")
    assert isinstance(status, dict)
    return status


def find(status: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(figure for figure in status["figures"] if figure["name"] == name)
    return found


def test_without_a_backtest_there_is_no_promise(tmp_path: Path) -> None:
    make_project(tmp_path / "shop")
    status = get_status(tmp_path / "shop")
    assert status["state"] == "none"
    assert "tidemill backtest" in status["text"]
    assert "no promise" in tidemill(tmp_path / "shop", "policy", "status").stdout
    tidemill(tmp_path / "shop", "policy", "status", "--model", "absent", code=2)


def test_the_loss_of_served_rows_is_compared_with_the_promise(served: Path) -> None:
    store(served, 0.55)
    status = get_status(served)
    assert (status["state"], status["labels"], status["predictions"]) == ("in force", 300, 300)
    loss = find(status, "log loss")
    assert loss["promised"] == pytest.approx(0.55)
    assert 0.2 < loss["observed"] < 0.8
    assert loss["holds"] == (loss["observed"] <= loss["high"])
    printed = tidemill(served, "policy", "status").stdout
    assert "300 predictions, 300 of them labelled" in printed


def test_a_promise_that_is_too_good_does_not_hold(served: Path) -> None:
    store(served, 0.05)
    status = get_status(served)
    assert find(status, "log loss")["holds"] is False
    assert status["text"] == "the promise does not hold for: log loss"
    store(served, 2.0)
    assert find(get_status(served), "log loss")["holds"] is True, "a lower loss breaks no promise"


def test_a_changed_policy_has_no_promise_and_the_changed_tables_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    store(folder, 0.5)
    assert get_status(folder)["state"] == "waiting"
    file = folder / "tidemill.toml"
    file.write_text(file.read_text().replace('cooldown = "7d"', 'cooldown = "3d"'))
    status = get_status(folder)
    assert (status["state"], status["changed"]) == ("changed", ["triggers"])
    assert "triggers" in tidemill(folder, "policy", "status").stdout
    file.write_text(file.read_text().replace('cooldown = "3d"', 'cooldown = "7d"'))
    assert get_status(folder)["state"] == "waiting", "the promise of the same policy is found again"


def test_settings_without_effect_do_not_change_the_digest(tmp_path: Path) -> None:
    policy = make_project(tmp_path / "shop").policy
    assert digest_effect(replace(policy, backtest=Backtest(seed=7))) == digest_effect(policy)
    model = policy.models["shop"]
    other = replace(policy, models={"shop": replace(model, training=replace(model.training, window="9d"))})
    assert digest_effect(other) != digest_effect(policy)
    tables, others = digest_tables(policy), digest_tables(other)
    assert [name for name in tables if tables[name] != others[name]] == ["training"]


def test_a_promise_counts_per_month(tmp_path: Path) -> None:
    make_project(tmp_path / "shop")
    store(tmp_path / "shop", 0.5, trainings=8)
    trainings = find(get_status(tmp_path / "shop"), "trainings")
    assert trainings["promised"] == pytest.approx(7 / 196 * 30)
    assert _PERIOD.end - _PERIOD.begin == timedelta(days=196)


def test_the_page_has_the_figures_of_the_command(served: Path) -> None:
    store(served, 0.55)
    session = open_session(Project(served))
    pages = Pages(session, 0, lambda _: [compare_with_promise(session, "shop")])
    pages.start()
    try:
        with urllib.request.urlopen(f"{pages.address}/policy?format=json", timeout=30) as response:
            (shown,) = json.load(response)["policies"]
        with urllib.request.urlopen(f"{pages.address}/policy", timeout=30) as response:
            page = response.read().decode()
    finally:
        pages.stop()
    status = get_status(served)
    for name in ("state", "text", "promise", "labels", "predictions"):
        assert shown[name] == status[name], name
    assert find(shown, "log loss") == find(status, "log loss")
    assert "false alarms in 30 days" in page
    assert "expected by now (95 %)" in page


def make_story(release: str, settled: datetime) -> TrainingStory:
    return TrainingStory(
        number=1,
        run="r",
        pipeline="training",
        trigger="daily",
        due=settled,
        started=settled,
        release=release,
        ending="promoted",
        settled=settled,
    )


def make_route(version: int, since: datetime, package: str) -> Route:
    arm = Arm(release=f"shop/{version}", version=version, package=package, role="champion", share=1.0)
    return Route(
        id=f"r{version}",
        environment="production",
        model="shop",
        version=version,
        arms=(arm,),
        since=since,
        reason="promoted",
    )


def test_a_promoted_model_that_is_worse_on_the_rows_served_after_it_is_a_wrong_promotion(served: Path) -> None:
    """One model learned the labels, the other one learned them reversed."""
    folder = served.parent / "reversed" / "shop"
    make_project(folder)
    table = folder / "data" / "shop.csv"
    rows = pl.read_csv(table)
    rows.with_columns(pl.when(pl.col("late") == 1).then(0).otherwise(1).alias("late")).write_csv(table)
    tidemill(folder, "run", "training")
    sessions = [open_session(Project(project)) for project in (served, folder)]
    stores = {session.workspace.ledger.routes.find()[-1].arms[0].package: session.packages for session in sessions}
    good, reversed_model = stores
    packages = SimpleNamespace(load=lambda digest: stores[digest].load(digest))
    served_rows = read_window(sessions[0].workspace.journal, "shop", None, datetime.now(UTC))
    first = served_rows["known_at"].min()
    assert isinstance(first, datetime)
    decided = first - timedelta(hours=1)

    def count(before: str, promoted: str, rows: pl.DataFrame) -> int | None:
        routes = [make_route(1, decided - timedelta(days=1), before), make_route(2, decided, promoted)]
        stories = [make_story("shop/2", decided)]
        return count_observed_wrong_promotions(packages, 0.02, stories, routes, rows)  # type: ignore[arg-type]

    assert count(good, reversed_model, served_rows) == 1
    assert count(reversed_model, good, served_rows) == 0
    assert count(good, good, served_rows) == 0, "the same model is not worse"
    assert count(good, reversed_model, served_rows.head(5)) is None, "five rows decide nothing"
    assert count_observed_wrong_promotions(sessions[0].packages, 0.02, [], [], served_rows) == 0
