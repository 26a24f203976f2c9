"""Relations between columns: rows fit them less where the columns no longer belong together."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from msgspec import json

from tidemill.checks.drift import Window, drift
from tidemill.core.check import Verdict
from tidemill.data.relations import profile_joint, profile_reference, relate
from tidemill.data.statistics import Profile, profile

START = datetime(2026, 1, 1, tzinfo=UTC)


def build(seed: int, rows: int, related: float = 0.7) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, rows))
    columns = {f"x{index}": random.normal(size=rows) for index in range(8)}
    other = related * first + np.sqrt(1 - related**2) * second
    words = np.where(first + random.normal(size=rows) > 0, "warm", "cold")
    return pl.DataFrame(columns | {"first": first, "second": other}).with_columns(word=pl.Series(words))


def clock(rows: int) -> pl.Series:
    return pl.Series([START + timedelta(minutes=row) for row in range(rows)])


REFERENCE = profile_reference(build(0, 20_000), clock(20_000))


def judge(frame: pl.DataFrame, reference: Profile = REFERENCE) -> Verdict:
    now, (joint,) = profile(frame, reference), profile_joint(frame, [0, frame.height], reference)
    windows = [Window(now=joint)] if joint is not None else []
    return drift(now, reference, subject="x", limit=0.3, action="retrain", minimum=100, relations=lambda: windows)


def test_a_permuted_column_is_reported_though_its_distribution_is_the_same() -> None:
    frame = build(1, 2_000)
    permuted = frame.with_columns(frame["second"].shuffle(seed=1))
    verdict = judge(permuted)
    assert (verdict.outcome, verdict.action) == ("warn", "experiment")
    assert "first given the others" in verdict.reason or "second" in verdict.reason
    assert judge(permuted.with_columns(pl.lit(None).alias("x1"))).evidence["columns"][0]["column"] == "x1"


@pytest.mark.parametrize("related", [0.4, 0.0])
def test_a_weaker_relation_is_reported(related: float) -> None:
    assert judge(build(2, 10_000, related)).outcome == "warn"


def test_a_relation_that_is_not_monotone_is_used() -> None:
    random = np.random.default_rng(3)
    hour = random.uniform(0, 24, 12_000)
    frame = pl.DataFrame({"hour": hour, "load": -((hour - 12) ** 2) + random.normal(size=12_000) * 10})
    reference = profile_reference(frame[:10_000], clock(10_000))
    assert judge(frame[10_000:], reference).outcome == "pass"
    assert judge(frame[10_000:].with_columns(pl.col("load").shuffle(seed=1)), reference).outcome == "warn"


def test_where_nothing_changed_nothing_is_reported() -> None:
    assert {judge(build(seed, rows)).outcome for seed in range(10, 35) for rows in (300, 2_000)} == {"pass"}


def test_columns_without_relations_have_none() -> None:
    random = np.random.default_rng(4)
    frame = pl.DataFrame({f"x{index}": random.normal(size=5_000) for index in range(5)})
    assert profile_reference(frame, clock(5_000)).joint is None
    assert profile_reference(build(0, 100), clock(100)).relations is None
    assert profile_reference(pl.DataFrame(), clock(0)).joint is None


def test_rows_with_missing_infinite_and_unknown_values_have_relations() -> None:
    frame = build(5, 400).with_columns(
        first=pl.Series([None, float("nan"), float("inf"), 1e300] * 100), word=pl.lit("never seen")
    )
    found = relate(frame, REFERENCE)
    assert found.height == 400
    values = found["first given the others"]
    assert values.is_nan().sum() == 300
    assert bool(found.select(pl.all().drop_nans().is_finite().all()).to_numpy().all())
    assert profile_joint(frame.drop("second"), [0, frame.height], REFERENCE) == []


def test_the_reference_is_stored_and_read() -> None:
    assert json.decode(json.encode(REFERENCE), type=Profile) == REFERENCE


def test_one_thousand_columns_have_bounded_relations() -> None:
    random = np.random.default_rng(6)
    base = random.normal(size=400)
    frame = pl.DataFrame({f"x{index}": base + random.normal(size=400) for index in range(1_000)})
    relations = profile_reference(frame, clock(400)).relations
    assert relations is not None
    assert len(relations.features) == 128
