"""Regimes that a key names: which value requests a training, and when a bound release is undone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from tests.monitoring.test_regimes import POLICY as OTHER
from tests.monitoring.test_regimes import Shelf, draw, label
from tidemill.core.check import Verdict
from tidemill.core.regime import Regimes
from tidemill.core.route import Arm, Route
from tidemill.data.metrics import Truth, losses
from tidemill.journal.files import FileJournal
from tidemill.models.load import load
from tidemill.monitoring.keyed_regimes import count_new_labels, judge_binding, judge_values
from tidemill.monitoring.stored_releases import StoredRelease
from tidemill.registry.bindings import KeyCounts

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = replace(OTHER, regimes=Regimes(key="vehicle", minimum=100))
CHAMPION = Arm(release="shop/1", version=1, package="a", role="champion", share=1.0)
OF_B = Arm(release="shop/2", version=2, package="b", role="bound", value="B")
ROUTE = Route(
    id="r", environment="test", model="shop", version=1, arms=(CHAMPION,), since=NOON, reason="", key="vehicle"
)
BOUND = replace(ROUTE, arms=(CHAMPION, OF_B))


class Traffic:
    """Served rows with their value of the key, and labels that arrive later."""

    def __init__(self, folder: Path) -> None:
        self.journal = FileJournal(folder)
        self.count = 0
        self.now = NOON

    def serve(self, values: Sequence[str | None], *, labels: int, **columns: Any) -> None:
        """Serve a row a minute, and label the first `labels` of them an hour later."""
        count = len(values)
        times = [self.now + timedelta(minutes=index) for index in range(count)]
        served = pl.DataFrame(
            {
                "id": [f"p{self.count + index}" for index in range(count)],
                "key": [f"k{self.count + index}" for index in range(count)],
                "known_at": times,
                "time": times,
                "release": ["shop/1"] * count,
                "role": ["champion"] * count,
            }
        ).with_columns(
            pl.col("known_at", "time").cast(pl.Datetime("us", "UTC")), pl.Series("regime", values, dtype=pl.String)
        )
        self.journal.append("predictions/shop", served.with_columns(**columns))
        self.count += count
        self.now += timedelta(minutes=count + 60)
        labelled = served.head(labels).select(
            pl.lit("").alias("id"), "key", "time", pl.lit("yes").alias("value"), pl.lit(self.now).alias("known_at")
        )
        if labels:
            self.journal.append("labels/shop", labelled.with_columns(pl.col("known_at").cast(pl.Datetime("us", "UTC"))))

    def judge(self, earlier: Verdict | None = None, route: Route = ROUTE) -> Verdict:
        counts = earlier.read(KeyCounts) if earlier else None
        return judge_values(POLICY, CHAMPION, route, counts, self.journal, self.now)


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    return Traffic(tmp_path)


def test_a_value_requests_a_training_at_the_minimum_and_at_each_doubling(traffic: Traffic) -> None:
    traffic.serve(["A", "B", None] * 60, labels=180)
    first = traffic.judge()
    assert (first.outcome, first.action) == ("pass", "proceed")
    assert first.evidence["labelled"] == {"A": 60, "B": 60}
    traffic.serve(["B", "B", "A", ""] * 20, labels=80)
    second = traffic.judge(first)
    assert (second.action, second.evidence["value"], second.evidence["of_regime"]) == ("retrain", "B", 100)
    assert "shop/1 (the champion) serves them now" in second.reason
    traffic.serve(["A"] * 20, labels=20)
    third = traffic.judge(second)
    assert (third.action, third.evidence["value"]) == ("retrain", "A")
    traffic.serve(["B"] * 99, labels=99)
    fourth = traffic.judge(third)
    assert fourth.action == "proceed"
    traffic.serve(["B"], labels=1)
    assert traffic.judge(fourth, BOUND).reason.startswith(
        "200 labelled rows with vehicle = 'B' request a training; shop/2"
    )


def test_only_labelled_rows_count_and_each_once(traffic: Traffic) -> None:
    traffic.serve(["B"] * 150, labels=40)
    first = traffic.judge()
    assert first.evidence["labelled"] == {"B": 40}
    assert traffic.judge(first).evidence["labelled"] == {"B": 40}, "no label arrived since"


def test_without_predictions_nothing_is_requested(traffic: Traffic) -> None:
    verdict = traffic.judge()
    assert (verdict.action, verdict.evidence["labelled"]) == ("proceed", {})


def test_rows_from_before_the_key_have_it_among_their_inputs(traffic: Traffic) -> None:
    columns = {"features": pl.struct(pl.lit(7.0).alias("vehicle"))}
    traffic.serve([None] * 30, labels=30, **columns)
    counts = count_new_labels(POLICY, traffic.journal, NOON - timedelta(days=1), traffic.now)
    assert counts == {"7": 30}


def test_the_values_with_the_most_rows_are_counted(traffic: Traffic) -> None:
    traffic.serve([f"v{index}" for index in range(300)] + ["B"] * 5, labels=305)
    labelled = traffic.judge().evidence["labelled"]
    assert len(labelled) == 200
    assert labelled["B"] == 5


class Binding:
    """Rows of B, served by the bound release `of`, and the verdict on it against the champion `against`."""

    def __init__(self, folder: Path) -> None:
        self.shelf = Shelf()
        self.journal = FileJournal(folder)

    def judge(self, of: str, against: str, rows: int) -> Verdict:
        frame = draw(5, rows)
        own = self.shelf.models[of]
        probabilities = load(own).predict(frame).probabilities
        assert probabilities is not None
        times = pl.Series([NOON + timedelta(minutes=index) for index in range(rows)]).cast(pl.Datetime("us", "UTC"))
        served = pl.DataFrame({"id": [f"p{index}" for index in range(rows)]}).with_columns(
            key=pl.lit(""),
            known_at=times,
            time=times,
            release=pl.lit(OF_B.release),
            role=pl.lit("bound"),
            probability=pl.Series(probabilities.tolist()),
            features=frame.to_struct(),
            regime=pl.lit("B"),
        )
        self.journal.append("predictions/shop", served)
        labels = served.select("id", "key", "time", "known_at").with_columns(value=label(frame, "b"))
        self.journal.append("labels/shop", labels)
        releases = StoredRelease(own), StoredRelease(self.shelf.models[against])
        return judge_binding(POLICY, BOUND, OF_B, releases, self.journal, NOON + timedelta(days=2))


@pytest.mark.parametrize(
    ("of", "against", "rows", "action"),
    [("b", "a", 300, "proceed"), ("a", "b", 300, "rollback"), ("b", "b", 300, "proceed"), ("a", "b", 49, "hold")],
)
def test_a_bound_release_is_undone_only_if_the_champion_is_clearly_better(
    tmp_path: Path, of: str, against: str, rows: int, action: str
) -> None:
    verdict = Binding(tmp_path).judge(of, against, rows)
    assert (verdict.check, verdict.subject, verdict.action) == ("binding", "shop/2", action)
    assert (verdict.evidence["key"], verdict.evidence["value"], verdict.evidence["rows"]) == ("vehicle", "B", rows)


def test_the_losses_are_those_of_the_served_predictions(tmp_path: Path) -> None:
    binding = Binding(tmp_path)
    verdict = binding.judge("b", "a", 200)
    frame = draw(5, 200)
    truth = Truth("classification", (label(frame, "b") == "yes").to_numpy().astype(np.int64), ("no", "yes"))
    for name, part in (("b", "loss"), ("a", "champion_loss")):
        scores = load(binding.shelf.models[name]).predict(frame).probabilities
        assert scores is not None
        assert verdict.evidence[part] == pytest.approx(losses(truth, scores).mean())
