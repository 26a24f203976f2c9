"""The gate stops each kind of bad candidate for its reason; a good candidate passes."""

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.core import resources
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.metric import ProjectMetrics
from tidemill.core.model import Model
from tidemill.core.policy import Gate, ModelPolicy
from tidemill.core.probe import Environments
from tidemill.data.frame import TIME
from tidemill.data.split import split_by_time
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.recipes.fitting import describe, fit, learn_vocabularies
from tidemill.recipes.gating import GateFacts
from tidemill.recipes.judging import check_snapshot, gate, measure_on, probe_package
from tidemill.recipes.rows import Snapshot, read_labelled, take_snapshot
from tidemill.recipes.scoring import SplitRows

INPUTS = ("distance_km", "items", "carrier")


class Shop:
    """A project whose champion was trained on older rows; the recipe's steps train candidates and judge them."""

    def __init__(self, folder: Path) -> None:
        self.session: Session = open_session(make_project(folder))
        self.policy: ModelPolicy = self.session.project.policy.models["shop"]
        self.sources = self.session.resource(resources.Sources)
        self.context = Context(run="", step="", environment="production", model="shop", cause={})
        tables, journal = (self.session.resource(kind) for kind in (resources.Tables, resources.Journal))
        run(self.session, self.session.project.code.pipeline("ingestion"))
        books = self.session.resource(resources.BooksReader)
        self.snapshot: Snapshot = take_snapshot(
            self.policy, self.session.clock.now(), [], tables, journal, self.sources, books, self.context
        )
        rows = read_labelled(self.snapshot, self.policy.problem, tables)
        self.train, _, self.test = split_by_time(rows, "30d", 0.3, 0)
        self.champion = self.fit(self.train)

    def fit(self, train: pl.DataFrame, inputs: tuple[str, ...] = INPUTS, **options: Any) -> Model:
        policy = replace(self.policy, training=replace(self.policy.training, rounds=40, **options))
        features = FeatureSet(request=inputs)
        encoding = learn_vocabularies(train, features)
        profile = describe(train, features)
        return fit(train, None, encoding, profile, policy, features, self.snapshot, self.sources)

    def judge(
        self,
        candidate: Model,
        train: pl.DataFrame | None = None,
        test: pl.DataFrame | None = None,
        champion: Model | None = None,
        *,
        canary: bool = True,
        **policy: Any,
    ) -> Verdict:
        gate_policy = replace(
            self.policy,
            gate=Gate(slices=("carrier",), slice_minimum=50, **({"margin": 0.2} | policy)),
            rollout=replace(self.policy.rollout, canary=canary),
        )
        train, test = self.train if train is None else train, self.test if test is None else test
        probe = probe_package(candidate, gate_policy.gate, self.session.resource(Environments))
        own = self.session.resource(ProjectMetrics)
        test_metrics = measure_on(candidate, test, gate_policy, "test", [], self.sources, own)
        books, tables = self.session.resource(resources.Books), self.session.resource(resources.Tables)
        snapshot_check = check_snapshot(self.snapshot, books, tables, self.context)
        champion = champion or self.champion
        return gate(
            candidate,
            champion,
            SplitRows(train, None, test),
            GateFacts(test_metrics, snapshot_check, probe, []),
            gate_policy,
            self.sources,
            own,
            tables,
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("gate") / "shop")


@pytest.mark.parametrize("key", ['key = ["order_id"]', ""], ids=["by key", "by whole rows"])
def test_without_a_time_the_models_are_compared_on_rows_new_to_the_champion(tmp_path: Path, key: str) -> None:
    timeless = {'time = "ordered"\n': "", 'key = ["order_id"]': key, 'test = "14d" ': "test_share = 0.2 "}
    folder = make_project(tmp_path / "shop", replace=timeless).folder
    tidemill(folder, "run", "training")
    rows = pl.read_csv(folder / "data" / "shop.csv")
    newer = rows.with_columns(pl.col("distance_km") + 1, order_id="n" + pl.col("order_id"))
    pl.concat([rows, newer]).sample(fraction=1, shuffle=True, seed=1).write_csv(folder / "data" / "shop.csv")
    tidemill(folder, "run", "training")
    assert 500 < listed(folder, "checks", "list", "--check", "gate")[0]["evidence"]["compared_rows"] < 700


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with a project's own estimators, on the import path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return "odd_estimators"


def assert_stopped(verdict: Verdict, about: str, reason: str) -> None:
    """Assert that the verdict stops for this reason only."""
    failed = [finding["about"] for finding in verdict.evidence["findings"] if finding["outcome"] == "fail"]
    assert (verdict.outcome, verdict.action, failed) == ("fail", "stop", [about]), verdict.reason
    assert reason in verdict.reason


@pytest.mark.parametrize("estimator", ["lightgbm", "odd_estimators:Good", "sklearn.tree:DecisionTreeClassifier"])
def test_a_good_candidate_passes(shop: Shop, odd: str, estimator: str) -> None:
    params = {"max_depth": 3} if estimator.startswith("sklearn") else {}
    good = shop.fit(shop.train, estimator=estimator, params=params)
    verdict = shop.judge(good, thresholds={"roc_auc": ">= 0.6"}, latency_ms=500, memory_mb=2000, size_mb=5)
    assert (verdict.outcome, verdict.action) == ("pass", "proceed"), verdict.reason
    assert verdict.reason.startswith("not worse than the champion")
    assert verdict.evidence["tried_in"] == "a fresh process with the packages of its lock"


def test_worse_than_the_champion(shop: Shop) -> None:
    lazy = shop.fit(shop.train, inputs=INPUTS, params={"learning_rate": 0.005})
    verdict = shop.judge(lazy, margin=0.0, slice_tolerance=1.0, canary=False)
    assert_stopped(verdict, "champion", "worse than the champion: loss")
    assert "the champion would pass the thresholds and the trivial baseline on these" in verdict.reason
    verdict = shop.judge(lazy, margin=0.0, slice_tolerance=1.0)
    assert (verdict.outcome, verdict.action) == ("undecided", "proceed")
    assert "by less than a fifth of its loss; a canary decides" in verdict.reason


def test_worse_than_the_baseline(shop: Shop) -> None:
    mixed_up = shop.fit(shop.train.with_columns(pl.col("late").shuffle(seed=1)))
    verdict = shop.judge(mixed_up, slice_tolerance=1.0)
    assert_stopped(verdict, "baseline", "not better than the trivial baseline")


def test_bad_on_one_slice(shop: Shop) -> None:
    swift = pl.col("carrier") == "swift"
    wrong = shop.train.with_columns(pl.when(swift).then(~pl.col("late")).otherwise(pl.col("late")).alias("late"))
    assert_stopped(shop.judge(shop.fit(wrong), margin=2.0, baseline_margin=-2.0), "slices", "carrier=swift by at least")


def test_an_input_that_is_the_label(shop: Shop) -> None:
    aftermath = pl.when(pl.col("late")).then(pl.lit("refund")).otherwise(pl.lit("none")).alias("aftermath")
    train, test = shop.train.with_columns(aftermath), shop.test.with_columns(aftermath)
    candidate = shop.fit(train, inputs=(*INPUTS, "aftermath"))
    assert_stopped(shop.judge(candidate, train, test, signature="any"), "leak", "'aftermath' alone predicts the label")


def test_test_rows_among_the_training_rows(shop: Shop) -> None:
    train = pl.concat([shop.train, shop.test.head(100).with_columns(pl.lit(shop.train[TIME].max()).alias(TIME))])
    assert_stopped(shop.judge(shop.fit(train), train), "test rows", "of the test rows are among its training rows")


def test_rows_of_the_future_of_the_test(shop: Shop) -> None:
    train, test = pl.concat([shop.train.tail(900), shop.test.tail(200)]), shop.test.head(500)
    assert_stopped(
        shop.judge(shop.fit(train), train, test), "future", "200 of its training rows are later than the first test row"
    )


def test_no_prediction_for_some_rows(shop: Shop, odd: str) -> None:
    holes = shop.fit(shop.train, estimator=f"{odd}:PartlyNan")
    assert_stopped(shop.judge(holes), "answers", "rows are not finite")


def test_no_probabilities(shop: Shop) -> None:
    beyond = shop.fit(shop.train, params={"objective": "regression"})
    assert_stopped(shop.judge(beyond, margin=1.0, slice_tolerance=2.0), "answers", "rows are not probabilities")


@pytest.mark.parametrize("better", [False, True])
def test_a_champion_that_cannot_predict_the_rows_is_reported(shop: Shop, better: bool) -> None:
    """A champion that cannot predict these rows: `items` has become text."""
    words = pl.col("items").cast(pl.String) + " pieces"
    train, test = shop.train.with_columns(words), shop.test.with_columns(words)
    verdict = shop.judge(shop.fit(train), train, test, signature="any", better=better, older_data=True)
    assert verdict.outcome == ("fail" if better else "warn")
    assert "the champion cannot predict these rows (row 0: column 'items'" in verdict.reason


def test_a_champion_of_another_task_is_not_compared(shop: Shop) -> None:
    signature = replace(shop.champion.manifest.signature, task="regression", classes=())
    other = replace(shop.champion, manifest=replace(shop.champion.manifest, signature=signature))
    verdict = shop.judge(shop.fit(shop.train), champion=other, signature="any", older_data=True)
    assert (verdict.outcome, verdict.action) == ("warn", "proceed")
    assert "the champion is a model for regression" in verdict.reason


def test_with_a_new_class_it_is_compared_on_the_shared_classes(shop: Shop) -> None:
    some = pl.int_range(pl.len()) % 5 == 0
    label = pl.when(some).then(pl.lit("lost")).otherwise(pl.col("late").cast(pl.String)).alias("late")
    train, test = shop.train.with_columns(label), shop.test.with_columns(label)
    good, bad = shop.fit(train), shop.fit(train, params={"learning_rate": 0.0001})
    verdict = shop.judge(good, train, test, signature="any", baseline_margin=-1.0, slice_tolerance=1.0)
    assert not verdict.stops, verdict.reason
    assert verdict.evidence["compared_rows"] == test.height - test["late"].eq("lost").sum()
    assert_stopped(
        shop.judge(
            bad, train, test, canary=False, signature="any", margin=0.0, baseline_margin=-1.0, slice_tolerance=1.0
        ),
        "champion",
        "worse than the champion",
    )


def test_another_signature(shop: Shop) -> None:
    renamed = {"items": "pieces"}
    train, test = shop.train.rename(renamed), shop.test.rename(renamed)
    other = shop.fit(train, inputs=("distance_km", "pieces", "carrier"))
    champion = replace(
        shop.champion, manifest=replace(shop.champion.manifest, data={"trained_until": _last(shop.test)})
    )
    verdict = shop.judge(other, train, test, champion, older_data=True)
    assert_stopped(verdict, "signature", "input 'items' is missing; input 'pieces' (integer) is new")
    assert not shop.judge(other, train, test, champion, older_data=True, signature="any").stops


def test_a_package_missing_from_its_lock(shop: Shop, odd: str) -> None:
    needy = shop.fit(shop.train, estimator=f"{odd}:ImportsPandas")
    assert_stopped(shop.judge(needy), "lock", "imports 'pandas', which is not in its lock")
    assert not shop.judge(shop.fit(shop.train, estimator=f"{odd}:ImportsPandas", packages=("pandas",))).stops


def test_too_slow(shop: Shop, odd: str) -> None:
    slow = shop.fit(shop.train, estimator=f"{odd}:Slow")
    assert_stopped(shop.judge(slow, latency_ms=10), "latency", "ms; the policy allows 10")


def test_too_large(shop: Shop, odd: str) -> None:
    large = shop.fit(shop.train, estimator=f"{odd}:Large")
    assert_stopped(shop.judge(large, size_mb=1), "size", "MB; the policy allows 1")


def test_not_deterministic(shop: Shop, odd: str) -> None:
    noisy = shop.fit(shop.train, estimator=f"{odd}:Noisy")
    assert_stopped(shop.judge(noisy), "determinism", "not deterministic")


def test_trained_on_stopped_data(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    books, tables = shop.session.resource(resources.Books), shop.session.resource(resources.Tables)
    stop = Verdict(
        id=shop.session.clock.mint(),
        check="schema",
        subject="bad",
        outcome="fail",
        action="stop",
        reason="",
        environment="production",
    )
    books.verdicts.add(stop)
    assert not shop.judge(shop.champion).stops
    rows = tables.read("rows", shop.snapshot.version).head(50)
    version = tables.append("rows", "bad", rows.with_columns(pl.lit("bad").alias("_tidemill_batch")))
    shop.snapshot = replace(shop.snapshot, version=version)
    assert_stopped(shop.judge(shop.champion), "data", "trained on stopped batches: bad")
    books.verdicts.add(replace(stop, id=shop.session.clock.mint(), outcome="pass", action="proceed"))
    assert not shop.judge(shop.champion).stops, "the change was accepted since"


def test_older_data_than_the_champions(shop: Shop) -> None:
    champion = replace(
        shop.champion, manifest=replace(shop.champion.manifest, data={"trained_until": _last(shop.test)})
    )
    train, test = shop.train.head(1200), shop.train.tail(600)
    assert_stopped(shop.judge(shop.fit(train), train, test, champion), "data", "its data is older than the champion's")
    assert not shop.judge(shop.fit(train), train, test, champion, older_data=True).stops


def _last(rows: pl.DataFrame) -> str:
    newest = rows[TIME].max()
    assert isinstance(newest, datetime)
    return newest.isoformat()
