"""The watch on live answers: each metric that was measured at release is measured again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Watch, WatchValue
from tidemill.core.route import Arm, Route
from tidemill.data.metrics import Truth
from tidemill.errors import ConfigurationError
from tidemill.monitoring.watch import watch
from tidemill.store.journal import FileJournal
from tidemill.training.evaluate import evaluate

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
AT_RELEASE = {"test_f1": 0.9, "test_recall": 0.9, "test_roc_auc": 0.9, "test_profit": 12.0}


def judge(folder: Path, metric: str, labels: list[str]) -> Verdict:
    """The verdict on answers that all say "yes" with .8, where these are the labels."""
    journal = FileJournal(folder)
    rows = pl.DataFrame({"id": [f"p{place}" for place in range(len(labels))]}).with_columns(
        pl.lit("shop/1").alias("release"),
        pl.lit("champion").alias("role"),
        pl.lit("").alias("key"),
        pl.lit(NOW - timedelta(hours=2)).cast(pl.Datetime("us", "UTC")).alias("time"),
        pl.lit(NOW - timedelta(hours=2)).cast(pl.Datetime("us", "UTC")).alias("known_at"),
        pl.lit([0.2, 0.8]).alias("probability"),
    )
    journal.append("predictions/shop", rows)
    journal.append("labels/shop", rows.select("id", "key", "time", "known_at", pl.Series("value", labels)))
    policy = ModelPolicy(
        name="shop",
        problem=Problem(decision="d", source="rows", label="late"),
        watch=Watch(values=(WatchValue(value=metric, limit=0.1, action="retrain", minimum=10),)),
    )
    signature = Signature(inputs=(), task="classification", classes=("no", "yes"))
    champion = Model(manifest=Manifest(name="shop", flavor="f", signature=signature, metrics=AT_RELEASE))
    arm = Arm(release="shop/1", version=1, package="p", role="champion", share=1.0)
    route = Route(id="r", environment="test", model="shop", version=1, arms=(arm,), since=NOW, reason="")
    (verdict,) = watch(policy, champion, route, journal, NOW)
    return verdict


def test_a_metric_beyond_the_few_that_decide_is_measured_too(tmp_path: Path) -> None:
    bad = judge(tmp_path / "bad", "f1", ["no"] * 16 + ["yes"] * 4)
    assert (bad.outcome, bad.action) == ("fail", "retrain")
    assert bad.evidence["value"] == pytest.approx(2 * 0.2 / 1.2)
    assert judge(tmp_path / "good", "recall", ["no"] * 4 + ["yes"] * 16).outcome == "pass"


def test_a_metric_that_these_labels_do_not_define_is_undecided(tmp_path: Path) -> None:
    verdict = judge(tmp_path, "roc_auc", ["yes"] * 20)
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
    assert "roc_auc is not defined on these 20 labels" in verdict.reason


def test_before_there_are_labels_it_is_undecided(tmp_path: Path) -> None:
    assert judge(tmp_path, "f1", []).reason == "0 labels are too few to tell (at least 10)"


def test_a_metric_that_live_answers_do_not_give_is_refused_and_not_taken_for_good(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'profit', a metric of the project's own") as told:
        judge(tmp_path, "profit", ["no", "yes"] * 10)
    assert "f1" in told.value.cure


def looked_at(folder: Path, seed: int, worse: float) -> Verdict:
    """A look at 300 labels, limit .02, of a model that was released on 300 others; `worse` is by how much it is off."""
    random = np.random.default_rng(seed)

    def drawn(off: float) -> tuple[Truth, npt.NDArray[np.float64]]:
        chance = random.uniform(0.05, 0.95, 300)
        truth = Truth("classification", (random.random(300) < chance).astype(int), ("no", "yes"))
        said = np.clip(chance + off, 0.01, 0.99)
        return truth, np.column_stack((1 - said, said))

    tested, (truth, scores) = evaluate(*drawn(0), {}), drawn(worse)
    manifest = Manifest(
        name="shop",
        flavor="f",
        signature=Signature(inputs=(), task="classification", classes=("no", "yes")),
        metrics={"test_log_loss": tested.values["log_loss"]},
        intervals={"test_log_loss": tested.intervals["log_loss"]},
    )
    rows = pl.DataFrame({"id": [f"p{place}" for place in range(300)], "probability": scores.tolist()})
    moment = pl.lit(NOW - timedelta(hours=2)).cast(pl.Datetime("us", "UTC"))
    rows = rows.with_columns(
        release=pl.lit("shop/1"), role=pl.lit("champion"), key=pl.lit(""), time=moment, known_at=moment
    )
    journal = FileJournal(folder)
    journal.append("predictions/shop", rows)
    values = pl.Series("value", [("no", "yes")[place] for place in truth.values])
    journal.append("labels/shop", rows.select("id", "key", "time", "known_at", values))
    policy = ModelPolicy(
        name="shop",
        problem=Problem(decision="d", source="rows", label="late"),
        watch=Watch(values=(WatchValue(value="log_loss", limit=0.02, action="retrain"),)),
    )
    arm = Arm(release="shop/1", version=1, package="p", role="champion", share=1.0)
    route = Route(id="r", environment="test", model="shop", version=1, arms=(arm,), since=NOW, reason="")
    (verdict,) = watch(policy, Model(manifest=manifest), route, journal, NOW)
    return verdict


def test_the_watch_does_not_cry_wolf_and_hears_it_come(tmp_path: Path) -> None:
    """Of 200 looks at a model as good as ever at most 2 call; of 50 at one that is off by .3, at least 45."""
    false = sum(looked_at(tmp_path / f"same{seed}", seed, 0.0).outcome == "fail" for seed in range(200))
    heard = sum(looked_at(tmp_path / f"off{seed}", seed, 0.3).outcome == "fail" for seed in range(50))
    assert false <= 2
    assert heard >= 45
