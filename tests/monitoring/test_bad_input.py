"""Bad input of the watch: columns of any type that become another, odd labels, and clocks that disagree."""

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import json
from msgspec.structs import replace

from tests.monitoring.test_watch import MANIFEST, NOW, POLICY, ROUTE, predict_yes, time_literal
from tidemill.checks.drift import drift
from tidemill.core.check import Verdict
from tidemill.core.model import Model
from tidemill.core.policy import Watch, WatchValue
from tidemill.data.relations import profile_reference
from tidemill.journal.files import FileJournal
from tidemill.labels.feedback import match
from tidemill.monitoring.inputs import build_relation_windows, build_windows
from tidemill.monitoring.watch import watch
from tidemill.monitoring.windows import read_window

START = datetime(2026, 1, 1, tzinfo=UTC)
RANDOM = np.random.default_rng(1)
KINDS: dict[str, Callable[[int], Any]] = {
    "largest numbers": lambda rows: RANDOM.choice([1e308, -1e308, 1.0], rows),
    "smallest numbers": lambda rows: RANDOM.choice([5e-324, 0.0, -5e-324], rows),
    "infinite": lambda rows: RANDOM.choice([np.inf, -np.inf, np.nan, 2.0], rows),
    "nothing": lambda rows: [None] * rows,
    "booleans": lambda rows: RANDOM.random(rows) < 0.5,
    "large counts": lambda rows: RANDOM.integers(2**63, 2**64 - 1, rows, dtype=np.uint64),
    "decimals": lambda rows: [Decimal("1.25"), Decimal(2)] * (rows // 2),
    "days": lambda rows: [START.date() + timedelta(days=row % 90) for row in range(rows)],
    "durations": lambda rows: [timedelta(seconds=row % 90) for row in range(rows)],
    "categories": lambda rows: pl.Series(RANDOM.choice(["a", "b"], rows)).cast(pl.Categorical),
    "lists": lambda rows: [[1, 2]] * rows,
    "bytes": lambda rows: [b"x"] * rows,
    "one text": lambda rows: [""] * rows,
    "texts": lambda rows: RANDOM.choice(["é", "\0", "a\n", ""], rows),
    "normal": lambda rows: RANDOM.normal(size=rows),
}


def judge_change(reference_kind: str, kind: str, reference_rows: int, rows: int) -> Verdict:
    """Return the verdict on a column that had one kind of values in the training rows and has another one now."""

    def clock(count: int) -> pl.Series:
        return pl.Series([START + timedelta(minutes=5 * row) for row in range(count)])

    def build(name: str, count: int) -> pl.DataFrame:
        return pl.DataFrame({"odd": KINDS[name](count), "normal": KINDS["normal"](count)})

    reference = profile_reference(build(reference_kind, reference_rows), clock(reference_rows))
    served = build(kind, rows).select(pl.struct(pl.all()).alias("features"))
    served = served.with_columns(time=clock(rows), known_at=clock(rows))
    whole, *recent = build_windows(served, reference, 250)
    return drift(
        whole.now,
        reference,
        subject="shop/1",
        limit=0.5,
        action="retrain",
        minimum=2,
        seconds=whole.seconds,
        relations=partial(build_relation_windows, served, reference, 250),
        recent=recent,
    )


@pytest.mark.parametrize("reference_kind", KINDS)
def test_a_column_of_any_kind_that_becomes_any_other_has_a_verdict_that_can_be_stored(reference_kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            for reference_rows, rows in ((50, 2), (400, 300)):
                verdict = judge_change(reference_kind, kind, reference_rows, rows)
                assert json.decode(json.encode(verdict), type=Verdict) == verdict, (kind, reference_rows, rows)


@pytest.mark.parametrize("kind", ["nothing", "infinite", "texts", "lists"])
def test_numbers_that_became_something_else_are_reported(kind: str) -> None:
    verdict = judge_change("normal", kind, 1200, 600)
    assert "odd" in [test["column"] for test in verdict.evidence["columns"] if test["moved"]], verdict.reason


def label(rows: pl.DataFrame, value: str, later: timedelta = timedelta(0)) -> pl.DataFrame:
    return rows.select("id", "key", "time", pl.col("known_at") + later, value=pl.lit(value))


def judge_labels(folder: Path, *labels: pl.DataFrame, served: pl.DataFrame | None = None) -> Verdict:
    journal, rows = FileJournal(folder), predict_yes(40) if served is None else served
    journal.append("predictions/shop", rows)
    for part in labels:
        journal.append("labels/shop", part)
    value = WatchValue(value="recall", limit=0.1, action="retrain", minimum=10)
    policy = replace(POLICY, watch=Watch(values=(value,)))
    (verdict,) = watch(policy, Model(manifest=MANIFEST), ROUTE, journal, NOW)
    return verdict


def test_labels_of_unknown_predictions_are_counted_and_change_nothing(tmp_path: Path) -> None:
    rows = predict_yes(40)
    strange = label(rows, "no").with_columns(id=pl.col("id") + "-unknown")
    verdict = judge_labels(tmp_path, label(rows, "yes"), strange)
    assert (verdict.outcome, verdict.evidence["rows"], verdict.evidence["value"]) == ("pass", 40, 1.0)
    assert match(rows, pl.concat([label(rows, "yes"), strange])).unknown == 40


@pytest.mark.parametrize("later", [timedelta(0), timedelta(hours=1)])
def test_of_labels_that_contradict_each_other_the_latest_counts_and_each_row_counts_once(
    tmp_path: Path, later: timedelta
) -> None:
    """Those of one request, which are known at the same instant, count in their order."""
    rows = predict_yes(40)
    labels = [label(rows, "no"), label(rows, "yes", later), label(rows, "yes", later)]
    verdict = judge_labels(tmp_path, pl.concat(labels))
    assert (verdict.outcome, verdict.evidence["rows"], verdict.evidence["value"]) == ("pass", 40, 1.0)
    assert match(rows, pl.concat(labels)).contradictions == 40


@pytest.mark.parametrize("early", [timedelta(minutes=1), timedelta(hours=3)])
def test_labels_from_before_their_predictions_count_without_a_negative_delay(tmp_path: Path, early: timedelta) -> None:
    """The clock of the sender of labels is slow, or the label was known before the request."""
    verdict = judge_labels(tmp_path, label(predict_yes(40), "yes", -early))
    assert (verdict.outcome, verdict.evidence["rows"]) == ("pass", 40)
    delays = verdict.evidence.get("label_delays", {})
    assert all(value is None or value >= 0 for value in delays.values() if not isinstance(value, dict | list | str))


def test_rows_and_labels_of_a_clock_that_is_ahead_count_when_their_time_has_come(tmp_path: Path) -> None:
    rows = predict_yes(40)
    ahead = rows.with_columns(known_at=time_literal(NOW + timedelta(hours=1)), id=pl.col("id") + "-ahead")
    served = pl.concat([rows, ahead])
    later = label(rows, "no", timedelta(days=2))
    verdict = judge_labels(tmp_path, label(served, "yes"), later, served=served)
    assert (verdict.outcome, verdict.evidence["rows"], verdict.evidence["value"]) == ("pass", 40, 1.0)
    found = read_window(FileJournal(tmp_path), "shop", None, NOW + timedelta(hours=2))
    assert (found.height, found["truth"].null_count()) == (80, 0)


def test_a_prediction_without_a_label_in_time_is_undecided_and_no_error(tmp_path: Path) -> None:
    rows = predict_yes(40)
    verdict = judge_labels(tmp_path, label(rows, "yes", timedelta(days=9)))
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
