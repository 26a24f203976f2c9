"""The watch on live answers: each metric that was measured at release is measured again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Watch, WatchValue
from tidemill.core.route import Arm, Route
from tidemill.errors import ConfigurationError
from tidemill.monitoring.watch import watch
from tidemill.store.journal import FileJournal

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
