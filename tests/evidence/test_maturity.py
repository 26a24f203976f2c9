"""The MLOps level of real small workspaces: empty, trained once, registered manually, and after two months."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import joblib
import polars as pl
import pytest
from msgspec.structs import replace
from sklearn.linear_model import LogisticRegression

from tests.projects import listed, make_project, tidemill
from tidemill.backtest.period import choose_period
from tidemill.backtest.replay import Replay
from tidemill.clock import VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.deployment import Deployment
from tidemill.core.environment import Environment
from tidemill.core.policy import Policy
from tidemill.evidence.maturity import Characteristic, Maturity, assess
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project
from tidemill.registry.deployments import approve

START = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Policy]:
    """The ledger after a loop of two months: trainings by the calendar and by the watch, and canaries."""
    folder = tmp_path_factory.mktemp("looped")
    changes = {'cooldown = "7d"': 'cooldown = "4d"', "minimum = 200": "minimum = 60"}
    project = make_project(folder / "shop", replace=changes)
    file = folder / "shop" / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    is_second_half = pl.col("ordered") > datetime(2026, 2, 20, tzinfo=UTC)
    rows.with_columns(pl.when(is_second_half).then(pl.col("late").not_()).otherwise("late")).write_csv(file)
    policy = replace(project.policy, triggers=tuple(t for t in project.policy.triggers if t.on != "data"))
    period = choose_period(project, "", "2026-02-05", "2026-04-01")
    replay = Replay(Project(project.folder, policy), policy, "", period, folder / "replay", lambda *_: None)
    replay.run()
    return replay.books, replay.policy


def find(found: Maturity, name: str) -> Characteristic:
    """Return a characteristic of the only model."""
    parts = [part for level in found.models[0].levels for part in level.characteristics]
    return next(part for part in parts if part.name == name)


def names(found: Maturity, level: int) -> set[str]:
    """Return the names of the missing characteristics of a level."""
    return {part.name for part in found.models[0].levels[level].missing}


def test_a_project_without_a_release_is_below_level_0_and_each_cure_is_named(tmp_path: Path) -> None:
    make_project(tmp_path / "shop")
    shown = tidemill(tmp_path / "shop", "maturity").stdout
    assert "below level 0" in shown
    assert "next for level 0: tidemill run training" in shown
    found = listed(tmp_path / "shop", "maturity")
    assert found["level"] is None
    parts = [part for level in found["models"][0]["levels"] for part in level["characteristics"]]
    assert all(part["cure"] and not part["met"] for part in parts)
    unknown = tidemill(tmp_path / "shop", "maturity", "--model", "flights", code=2).stderr
    assert "the models are: shop" in " ".join(unknown.split())


def test_a_trained_project_is_at_level_0_until_triggers_and_a_watch_have_run(trained: Project) -> None:
    project = trained
    found = assess(open_workspace(project.state_folder, "production").ledger, project.policy, "production")
    assert found.level == 0
    assert names(found, 1) == {"triggers", "online validation", "monitoring"}
    assert find(found, "registered model").evidence[0].id == "shop/1"
    assert find(found, "model validation").count == 1
    assert find(found, "metadata").newest is not None
    assert find(found, "source control").cure.startswith("git init")
    elsewhere = assess(open_workspace(project.state_folder, "production").ledger, project.policy, "test")
    assert elsewhere.level is None, "what serves in production is no evidence for the environment `test`"
    assert find(elsewhere, "prediction service").cure == "tidemill models promote shop/1 --reason … --env test"


def test_models_that_are_registered_manually_reach_level_0_and_the_cure_is_a_pipeline(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    rows = pl.DataFrame({"distance_km": [50.0, 900.0, 120.0, 700.0] * 25, "items": [1, 6, 2, 8] * 25})
    joblib.dump(LogisticRegression().fit(rows.to_numpy(), [False, True] * 50), tmp_path / "model.joblib")
    rows.head(20).write_csv(tmp_path / "samples.csv")
    words = ("register", str(tmp_path / "model.joblib"), "--samples", str(tmp_path / "samples.csv"), "--name", "paper")
    tidemill(project.folder, "models", *words, "--task", "classification", "--classes", "false,true", "--trust")
    books = open_workspace(project.state_folder, "production").ledger
    assert assess(books, project.policy, "production").level is None
    tidemill(project.folder, "models", "promote", "paper/1", "--reason", "because")
    found = assess(books, project.policy, "production")
    assert [(model.model, model.level) for model in found.models] == [("paper", 0), ("shop", None)]
    assert found.level == 0, "a model of the policy without a release does not count"
    pipeline = find(found, "automated training pipeline")
    assert not pipeline.met
    assert "[models.paper.problem]" in pipeline.cure
    assert "registered manually" in find(found, "the same pipeline in production").text
    shown = tidemill(project.folder, "maturity").stdout
    assert "paper: level 0 (manual process)" in shown


def test_a_loop_that_trains_by_its_triggers_and_judges_canaries_is_at_level_1(looped: tuple[Ledger, Policy]) -> None:
    books, policy = looped
    found = assess(books, policy, "backtest")
    assert found.level == 1, names(found, 1)
    assert "the check" in find(found, "triggers").text
    assert find(found, "online validation").count > 1
    assert find(found, "monitoring that triggers").met
    assert {"continuous integration", "tests", "packages", "approved deployment to production"} <= names(found, 2)


def test_builds_and_approved_deployments_make_a_loop_level_2(looped: tuple[Ledger, Policy], tmp_path: Path) -> None:
    books, policy = copy_books(looped[0], tmp_path), looped[1]
    kinds = {"staging": Environment(kind="preproduction"), "test": Environment(kind="test")}
    policy = replace(policy, environments=kinds)
    deliver(books)
    without = assess(books, policy, "backtest")
    assert names(without, 2) == {"approved deployment to production"}
    assert "without an approval" in find(without, "approved deployment to production").text
    approve(
        books,
        VirtualClock(read_start(books)),
        books.builds.get(f"{2:032}"),
        "backtest",
        actor="grace",
        reason="read it",
    )
    found = assess(books, policy, "backtest")
    assert found.level == 2, names(found, 2)
    assert "approved by grace" in find(found, "approved deployment to production").text
    assert find(found, "packages").text == "shop@2 (bbbbbbb) has wheel, image"
    assert found.models[0].next_level is None
    other = assess(books, policy, "staging")
    assert other.level is None


def copy_books(books: Ledger, folder: Path) -> Ledger:
    """Return a copy of a ledger."""
    copy = open_workspace(folder, "backtest").ledger
    for name, lines in books.export():
        copy.load(name, lines, lambda record: record)
    return copy


def read_start(books: Ledger) -> datetime:
    """Return the time of the first run."""
    return min(run.started for run in books.runs.find(limit=5))


def deliver(books: Ledger) -> None:
    """Write a refused and a passed build, and its deployments to three environments."""
    start = read_start(books)
    for number, state in ((1, "refused"), (2, "passed")):
        build = Build(
            id=f"{number:032}",
            project="shop",
            number=number,
            commit="ab"[number - 1] * 40,
            state=state,  # type: ignore[arg-type]
            created=start,
            environment="backtest",
            artifacts={"wheel": "d" * 64} if state == "passed" else {},
            image="sha256:1" if state == "passed" else "",
        )
        books.builds.add(build)
    tested = Verdict(
        id="1" * 32, check="ci_tests", subject="shop@2", outcome="pass", action="proceed", reason="12 tests"
    )
    books.verdicts.add(replace(tested, time=start, environment="backtest"))
    for index, environment in enumerate(("test", "staging", "backtest")):
        deployment = Deployment(
            id=f"{index:032}",
            environment=environment,
            version=1,
            build=f"{2:032}",
            change="first",
            state="healthy",
            time=start + timedelta(seconds=index),
            healthy=start + timedelta(seconds=index),
            by="ada",
        )
        books.deployments.add(deployment)
