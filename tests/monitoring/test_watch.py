"""The watch on live answers: each metric that was measured at release is measured again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from msgspec.structs import replace

from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Watch, WatchValue
from tidemill.core.route import Arm, Route
from tidemill.data.metrics import Truth
from tidemill.errors import ConfigurationError
from tidemill.journal.files import FileJournal
from tidemill.monitoring.watch import validate_online, watch
from tidemill.training.evaluate import evaluate

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
AT_RELEASE = {"test_f1": 0.9, "test_recall": 0.9, "test_roc_auc": 0.9, "test_profit": 12.0}


SIGNATURE = Signature(inputs=(), task="classification", classes=("no", "yes"))
MANIFEST = Manifest(name="shop", flavor="f", signature=SIGNATURE, metrics=AT_RELEASE)
POLICY = ModelPolicy(name="shop", problem=Problem(decision="d", source="rows", label="late"))
ARM = Arm(release="shop/1", version=1, package="p", role="champion", share=1.0)
ROUTE = Route(id="r", environment="test", model="shop", version=1, arms=(ARM,), since=NOW, reason="")


def moment(at: datetime) -> pl.Expr:
    return pl.lit(at).cast(pl.Datetime("us", "UTC"))


def answers(rows: int) -> pl.DataFrame:
    """Answers of two hours ago that all say "yes" with .8."""
    return pl.DataFrame({"id": [f"p{place}" for place in range(rows)]}).with_columns(
        pl.lit("shop/1").alias("release"),
        pl.lit("champion").alias("role"),
        pl.lit("").alias("key"),
        moment(NOW - timedelta(hours=2)).alias("time"),
        moment(NOW - timedelta(hours=2)).alias("known_at"),
        pl.lit([0.2, 0.8]).alias("probability"),
    )


def judge(folder: Path, metric: str, labels: list[str]) -> Verdict:
    """The verdict on answers that all say "yes" with .8, where these are the labels."""
    journal = FileJournal(folder)
    rows = answers(len(labels))
    journal.append("predictions/shop", rows)
    journal.append("labels/shop", rows.select("id", "key", "time", "known_at", pl.Series("value", labels)))
    watched = WatchValue(value=metric, limit=0.1, action="retrain", minimum=10)
    policy = replace(POLICY, watch=Watch(values=(watched,)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), ROUTE, journal, NOW)
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


def test_labels_of_classes_that_it_does_not_know_are_told(tmp_path: Path) -> None:
    verdict = judge(tmp_path, "recall", ["no"] * 4 + ["yes"] * 16 + ["lost"] * 10)
    assert (verdict.outcome, verdict.evidence["rows"], verdict.evidence["left_out"]) == ("pass", 20, 10)
    assert "10 labels are of classes that it does not know, and left out" in verdict.reason


def test_before_there_are_labels_it_is_undecided(tmp_path: Path) -> None:
    assert judge(tmp_path, "f1", []).reason == "0 labels are too few to tell (at least 10)"


def test_a_metric_that_live_answers_do_not_give_is_refused_and_not_taken_for_good(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'profit', a metric of the project's own") as told:
        judge(tmp_path, "profit", ["no", "yes"] * 10)
    assert "f1" in told.value.cure


@pytest.mark.parametrize(("hours", "outcome", "days"), [(30, "pass", 1.25), (60, "fail", 2.5), (300, "fail", 4.0)])
def test_the_last_answer_is_looked_for_beyond_the_window(tmp_path: Path, hours: int, outcome: str, days: float) -> None:
    route = replace(ROUTE, since=NOW - timedelta(days=90))
    value = WatchValue(value="silence", limit=2, action="retrain", window="1d")
    journal = FileJournal(tmp_path)
    journal.append("predictions/shop", answers(1).with_columns(known_at=moment(NOW - timedelta(hours=hours))))
    policy = replace(POLICY, watch=Watch(values=(value,)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), route, journal, NOW)
    assert (verdict.outcome, verdict.evidence["days"]) == (outcome, days)


def test_a_challenger_that_knows_another_class_is_judged_on_those_that_both_know(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    champion = answers(400)
    shadow = champion.with_columns(
        release=pl.lit("shop/2"), role=pl.lit("shadow"), probability=pl.lit([0.05, 0.05, 0.9])
    )
    journal.append("predictions/shop", champion)
    journal.append("predictions/shop", shadow)
    values = pl.Series("value", ["yes"] * 300 + ["lost"] * 100)
    journal.append("labels/shop", champion.select("id", "key", "time", "known_at", values))
    signatures = {
        "shop/1": SIGNATURE,
        "shop/2": Signature(inputs=(), task="classification", classes=("lost", "no", "yes")),
    }
    arms = (*ROUTE.arms, replace(ROUTE.arms[0], release="shop/2", version=2, role="challenger", share=0.2))
    route = replace(ROUTE, arms=arms, since=NOW - timedelta(days=1))
    (verdict,) = validate_online(POLICY, signatures, route, journal, NOW)
    assert (verdict.action, verdict.evidence["rows"]) == ("promote", 300)
    assert verdict.evidence["challenger_loss"] == pytest.approx(-np.log(0.9 / 0.95)), "among those that both know"


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
