"""The watch on live predictions: each metric that was measured at release is measured again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

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
from tidemill.monitoring.watch import watch
from tidemill.monitoring.windows import read_truth
from tidemill.training.evaluate import evaluate

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
AT_RELEASE = {"test_f1": 0.9, "test_recall": 0.9, "test_roc_auc": 0.9, "test_profit": 12.0}


SIGNATURE = Signature(inputs=(), task="classification", classes=("no", "yes"))
MANIFEST = Manifest(name="shop", flavor="f", signature=SIGNATURE, metrics=AT_RELEASE)
POLICY = ModelPolicy(name="shop", problem=Problem(decision="d", source="rows", label="late"))
ARM = Arm(release="shop/1", version=1, package="p", role="champion", share=1.0)
ROUTE = Route(id="r", environment="test", model="shop", version=1, arms=(ARM,), since=NOW, reason="")


def time_literal(at: datetime) -> pl.Expr:
    return pl.lit(at).cast(pl.Datetime("us", "UTC"))


def predict_yes(rows: int) -> pl.DataFrame:
    """Return predictions of two hours ago with a probability of .8 for "yes"."""
    return pl.DataFrame({"id": [f"p{index}" for index in range(rows)]}).with_columns(
        pl.lit("shop/1").alias("release"),
        pl.lit("champion").alias("role"),
        pl.lit("").alias("key"),
        time_literal(NOW - timedelta(hours=2)).alias("time"),
        time_literal(NOW - timedelta(hours=2)).alias("known_at"),
        pl.lit([0.2, 0.8]).alias("probability"),
    )


def judge(folder: Path, metric: str, labels: list[str], policy: ModelPolicy = POLICY) -> Verdict:
    """Return the verdict on predictions with a probability of .8 for "yes", with these labels."""
    journal = FileJournal(folder)
    rows = predict_yes(len(labels))
    journal.append("predictions/shop", rows)
    journal.append("labels/shop", rows.select("id", "key", "time", "known_at", pl.Series("value", labels)))
    watched = WatchValue(value=metric, limit=0.1, action="retrain", minimum=10)
    policy = replace(policy, watch=Watch(values=(watched,)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), ROUTE, journal, NOW)
    return verdict


def test_a_metric_outside_the_default_set_is_measured(tmp_path: Path) -> None:
    bad = judge(tmp_path / "bad", "f1", ["no"] * 16 + ["yes"] * 4)
    assert (bad.outcome, bad.action) == ("fail", "retrain")
    assert bad.evidence["value"] == pytest.approx(2 * 0.2 / 1.2)
    assert judge(tmp_path / "good", "recall", ["no"] * 4 + ["yes"] * 16).outcome == "pass"


def test_a_metric_that_is_not_defined_on_the_labels_is_undecided(tmp_path: Path) -> None:
    verdict = judge(tmp_path, "roc_auc", ["yes"] * 20)
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
    assert "roc_auc is not defined on these 20 labels" in verdict.reason


def test_labels_of_unknown_classes_are_reported(tmp_path: Path) -> None:
    verdict = judge(tmp_path, "recall", ["no"] * 4 + ["yes"] * 16 + ["lost"] * 10)
    assert (verdict.outcome, verdict.evidence["rows"], verdict.evidence["left_out"]) == ("pass", 20, 10)
    assert "10 labels are of classes that the model was not trained on, and are excluded" in verdict.reason


def test_labels_that_were_stored_in_another_spelling_count_as_in_a_training(tmp_path: Path) -> None:
    verdict = judge(tmp_path, "recall", ["no"] * 4 + [" yes", "yes "] * 8)
    assert (verdict.outcome, verdict.evidence["rows"]) == ("pass", 20)
    assert "left_out" not in verdict.evidence


def test_labels_that_were_stored_before_their_spelling_was_declared_count(tmp_path: Path) -> None:
    problem = replace(POLICY.problem, spellings={"Y": "yes"})
    verdict = judge(tmp_path, "recall", ["no"] * 4 + ["Y"] * 16, replace(POLICY, problem=problem))
    assert (verdict.outcome, verdict.evidence["rows"]) == ("pass", 20)


@pytest.mark.parametrize(
    ("classes", "stored", "meant"),
    [
        (("1", "2"), ["1.0", " 2", "2", "3", None], ["1", "2", "2", None, None]),
        (("false", "true"), ["True", "0", "1.0", "yes"], ["true", "false", "true", None]),
        ((), ["1.5", "2", "nan", "x"], [1.5, 2.0, None, None]),
    ],
)
def test_a_label_of_the_journal_is_read_by_its_meaning(
    classes: tuple[str, ...], stored: list[str | None], meant: list[str | float | None]
) -> None:
    task: Literal["classification", "regression"] = "classification" if classes else "regression"
    signature = Signature(inputs=(), task=task, classes=classes)
    assert read_truth(pl.Series(stored), signature).to_list() == meant


def test_without_labels_the_verdict_is_undecided(tmp_path: Path) -> None:
    assert judge(tmp_path, "f1", []).reason == "0 labels are too few (minimum 10)"


def test_a_metric_that_live_predictions_do_not_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'profit', a metric of the project's own") as refused:
        judge(tmp_path, "profit", ["no", "yes"] * 10)
    assert "f1" in refused.value.cure


@pytest.mark.parametrize(("hours", "outcome", "days"), [(30, "pass", 1.25), (60, "fail", 2.5), (300, "fail", 4.0)])
def test_silence_reads_predictions_before_the_window(tmp_path: Path, hours: int, outcome: str, days: float) -> None:
    route = replace(ROUTE, since=NOW - timedelta(days=90))
    value = WatchValue(value="silence", limit=2, action="retrain", window="1d")
    journal = FileJournal(tmp_path)
    journal.append("predictions/shop", predict_yes(1).with_columns(known_at=time_literal(NOW - timedelta(hours=hours))))
    policy = replace(POLICY, watch=Watch(values=(value,)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), route, journal, NOW)
    assert (verdict.outcome, verdict.evidence["days"]) == (outcome, days)


def evaluate_model(folder: Path, seed: int, worse: float) -> Verdict:
    """Evaluate a model on 300 labels, with a limit of .02; `worse` is the error of its probabilities."""
    random = np.random.default_rng(seed)

    def draw(off: float) -> tuple[Truth, npt.NDArray[np.float64]]:
        chance = random.uniform(0.05, 0.95, 300)
        truth = Truth("classification", (random.random(300) < chance).astype(int), ("no", "yes"))
        predicted = np.clip(chance + off, 0.01, 0.99)
        return truth, np.column_stack((1 - predicted, predicted))

    tested, (truth, scores) = evaluate(*draw(0), {}), draw(worse)
    manifest = Manifest(
        name="shop",
        flavor="f",
        signature=Signature(inputs=(), task="classification", classes=("no", "yes")),
        metrics={"test_log_loss": tested.values["log_loss"]},
        intervals={"test_log_loss": tested.intervals["log_loss"]},
    )
    rows = pl.DataFrame({"id": [f"p{index}" for index in range(300)], "probability": scores.tolist()})
    time = pl.lit(NOW - timedelta(hours=2)).cast(pl.Datetime("us", "UTC"))
    rows = rows.with_columns(
        release=pl.lit("shop/1"), role=pl.lit("champion"), key=pl.lit(""), time=time, known_at=time
    )
    journal = FileJournal(folder)
    journal.append("predictions/shop", rows)
    values = pl.Series("value", [("no", "yes")[index] for index in truth.values])
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


def test_the_watch_has_few_false_alarms_and_detects_a_worse_model(tmp_path: Path) -> None:
    """Of 200 evaluations of an unchanged model at most 2 fail; of 50 of a model with an error of .3, at least 45."""
    false_alarms = sum(evaluate_model(tmp_path / f"same{seed}", seed, 0.0).outcome == "fail" for seed in range(200))
    detected = sum(evaluate_model(tmp_path / f"off{seed}", seed, 0.3).outcome == "fail" for seed in range(50))
    assert false_alarms <= 2
    assert detected >= 45


@pytest.mark.parametrize("detector", ["adwin", "page_hinkley"])
def test_a_detector_reads_losses_in_the_order_in_which_labels_became_known(tmp_path: Path, detector: str) -> None:
    """The labels of the first half are wrong, and become known last: the increase is noticed at the end."""
    journal, rows = FileJournal(tmp_path), predict_yes(800)
    journal.append("predictions/shop", rows)
    times = [NOW - timedelta(minutes=90 if index < 400 else 118, seconds=-index) for index in range(800)]
    labels = rows.select("id", "key", "time").with_columns(
        pl.Series("known_at", times, dtype=pl.Datetime("us", "UTC")), pl.Series("value", ["no"] * 400 + ["yes"] * 400)
    )
    journal.append("labels/shop", labels)
    watched = WatchValue(value=detector, limit=0.1, action="experiment")
    policy = replace(POLICY, watch=Watch(values=(watched,)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), ROUTE, journal, NOW)
    assert (verdict.check, verdict.outcome, verdict.action) == ("change", "fail", "experiment")
    assert datetime.fromisoformat(verdict.evidence["noticed_at"]) >= NOW - timedelta(minutes=90)
    assert verdict.evidence["loss_before"] == pytest.approx(-np.log(0.8), abs=0.2)


def test_learning_of_a_model_that_cannot_learn_is_undecided(tmp_path: Path) -> None:
    policy = replace(POLICY, watch=Watch(values=(WatchValue(value="learning", limit=1, action="experiment"),)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), ROUTE, FileJournal(tmp_path), NOW)
    assert (verdict.check, verdict.outcome, verdict.action) == ("learning", "undecided", "hold")


def test_learning_fails_if_labels_wait_or_waited_too_long(tmp_path: Path) -> None:
    """A release learned two labels of ten days ago and answered eight days ago; other labels wait for two hours."""
    journal, rows = FileJournal(tmp_path), predict_yes(20)
    answer = NOW - timedelta(days=8)
    journal.append("predictions/shop", rows.with_columns(time_literal(answer).alias("known_at")))
    labelled = rows.select("id", "key", "time", "known_at").with_columns(pl.lit("yes").alias("value"))
    journal.append("labels/shop", labelled.head(5))
    known = (NOW - timedelta(days=10)).isoformat()
    times = dict.fromkeys(("first", "tenth", "middle", "last"), known)
    data = {"learned": {"rows": 2, "all_rows": 2, "labels": times}}
    learner = Model(manifest=replace(MANIFEST, flavor="river", data=data), files={"learned.json": b"{}"})
    outcomes = []
    for limit in (0.05, 1.0, 3.0):
        policy = replace(POLICY, watch=Watch(values=(WatchValue(value="learning", limit=limit, action="experiment"),)))
        (verdict,) = watch(policy, learner, ROUTE, journal, NOW)
        outcomes.append(verdict.outcome)
    assert outcomes == ["fail", "fail", "pass"]
    assert verdict.evidence["waiting"] == 5
    assert verdict.evidence["oldest_days"] == pytest.approx(2 / 24)
    assert verdict.evidence["label_to_answer_seconds"]["middle"] == 2 * 86400
    assert "2 labels were used 2.0 days after they became known" in verdict.reason
    (again,) = watch(policy, learner, ROUTE, FileJournal(tmp_path / "empty"), NOW, [verdict])
    assert again.evidence["first_answer"] == verdict.evidence["first_answer"]


def test_a_metric_on_a_partial_window_says_so(tmp_path: Path) -> None:
    journal, rows = FileJournal(tmp_path), predict_yes(40)
    journal.append("predictions/shop", rows)
    labels = rows.head(30).select("id", "key", "time", "known_at").with_columns(pl.lit("yes").alias("value"))
    journal.append("labels/shop", labels)
    policy = replace(POLICY, watch=Watch(values=(WatchValue(value="recall", limit=0.1, action="retrain", minimum=10),)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), ROUTE, journal, NOW)
    assert verdict.reason.endswith("75% of the labels of this window are known")
    later = NOW + timedelta(days=7)
    journal.append("predictions/shop", rows.with_columns(time_literal(later - timedelta(hours=2)).alias("known_at")))
    (after,) = watch(policy, Model(manifest=MANIFEST), ROUTE, journal, later, [verdict])
    assert after.evidence["label_delays"]["usual"] == pytest.approx(0.75)


@pytest.mark.parametrize("confident", [0.55, 0.99])
def test_the_estimate_without_labels_is_shown_and_decides_nothing(tmp_path: Path, confident: float) -> None:
    """The labelled rows are as bad however sure the model is on the others: the verdict is the same."""
    journal, rows = FileJournal(tmp_path), predict_yes(400)
    unlabelled = rows.tail(100).with_columns(pl.lit([1 - confident, confident]).alias("probability"))
    journal.append("predictions/shop", pl.concat([rows.head(300), unlabelled]))
    labels = rows.head(300).select("id", "key", "time", "known_at", pl.Series("value", ["no"] * 200 + ["yes"] * 100))
    journal.append("labels/shop", labels)
    manifest = replace(MANIFEST, metrics={"test_log_loss": 0.5})
    policy = replace(POLICY, watch=Watch(values=(WatchValue(value="log_loss", limit=0.1, action="retrain"),)))
    (verdict,) = watch(policy, Model(manifest=manifest), ROUTE, journal, NOW)
    assert (verdict.outcome, verdict.action) == ("fail", "retrain")
    assert verdict.evidence["value"] == pytest.approx(-(2 * np.log(0.2) + np.log(0.8)) / 3)
    estimate = verdict.evidence["without_labels"]
    assert (estimate["rows"], estimate["calibrated_on"]) == (100, 300)
    assert "valid only without concept drift" in verdict.reason
    (again,) = watch(policy, Model(manifest=manifest), ROUTE, journal, NOW, [verdict])
    assert again.evidence["references"] == verdict.evidence["references"]
