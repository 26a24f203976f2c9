"""The inputs of live predictions: the newest rows are compared alone, so that a broken column is reported early."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec import json
from msgspec.structs import replace
from polars.testing import assert_frame_equal

from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Watch, WatchValue
from tidemill.core.route import Arm, Route
from tidemill.data.marks import profile_history
from tidemill.data.relations import profile_reference, relate
from tidemill.data.statistics import merge, profile
from tidemill.journal.files import FileJournal
from tidemill.monitoring.inputs import build_windows, choose_level
from tidemill.monitoring.picture import draw_picture
from tidemill.monitoring.related_rows import RelatedRows
from tidemill.monitoring.watch import watch

START = datetime(2026, 1, 1, tzinfo=UTC)
SIGNATURE = Signature(inputs=(), task="classification", classes=("no", "yes"))
ARM = Arm(release="shop/1", version=1, package="p", role="champion", share=1.0)
VALUE = WatchValue(value="drift", limit=0.3, action="retrain", minimum=200)
HOURLY = 40


def build(rows: int, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    columns = {f"x{index}": random.normal(3, 1, rows) for index in range(10)}
    return pl.DataFrame(columns).with_columns(word=pl.Series(random.choice(["a", "b", "c"], rows)))


def clock(rows: int, first: float = 0) -> pl.Series:
    step = timedelta(hours=1) / HOURLY
    return pl.Series([START + step * (first + row) for row in range(rows)]).cast(pl.Datetime("us", "UTC"))


TRAINED = 60 * 24 * HOURLY
CHAMPION = Model(
    manifest=Manifest(name="shop", flavor="f", signature=SIGNATURE),
    files={"profile.json": json.encode(profile_history(build(TRAINED), clock(TRAINED)))},
)


def serve(features: pl.DataFrame, first: float = TRAINED) -> pl.DataFrame:
    times = clock(features.height, first)
    return pl.DataFrame(
        {
            "id": [f"p{index}" for index in range(features.height)],
            "release": "shop/1",
            "role": "champion",
            "key": "",
            "time": times,
            "known_at": times,
            "features": features.to_struct(),
        }
    )


def judge(folder: Path, features: pl.DataFrame, value: WatchValue = VALUE, champion: Model = CHAMPION) -> Verdict:
    journal = FileJournal(folder)
    rows = serve(features)
    journal.append("predictions/shop", rows)
    problem = Problem(decision="d", source="rows", label="late")
    policy = ModelPolicy(name="shop", problem=problem, watch=Watch(values=(value,)))
    route = Route(id="r", environment="test", model="shop", version=1, arms=(ARM,), since=START, reason="")
    now = rows["known_at"].max()
    assert isinstance(now, datetime)
    (verdict,) = watch(policy, champion, route, journal, now)
    return verdict


def break_newest(features: pl.DataFrame, change: pl.Expr, rows: int = 500) -> pl.DataFrame:
    return pl.concat([features.head(-rows), features.tail(rows).with_columns(change)], how="vertical_relaxed")


LIVE = build(7 * 24 * HOURLY - 10, seed=1)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("x3", pl.lit(0.5).alias("x3")),
        ("x3", pl.lit(None, pl.Float64).alias("x3")),
        ("x3", pl.col("x3") * 1.6),
        ("word", pl.lit("new").alias("word")),
    ],
)
def test_a_column_that_broke_500_rows_ago_is_reported_and_trains_nothing(
    tmp_path: Path, column: str, change: pl.Expr
) -> None:
    verdict = judge(tmp_path, break_newest(LIVE, change))
    assert (verdict.outcome, verdict.action) == ("warn", "experiment"), verdict.reason
    assert f"1 of 11 columns moved: {column} (" in verdict.reason
    (moved, *others) = verdict.evidence["columns"]
    assert moved["column"] == column
    assert "missing" in moved["effects"]
    assert not any(other["moved"] for other in others)


def test_rows_that_the_champion_only_shadowed_are_judged_too(tmp_path: Path) -> None:
    """In the canary of a refresh it serves one row of twenty."""
    broken = break_newest(LIVE, pl.lit(0.5).alias("x3"))
    roles = pl.int_range(broken.height) % 20 == 0
    journal = FileJournal(tmp_path)
    rows = serve(broken).with_columns(role=pl.when(roles).then(pl.lit("champion")).otherwise(pl.lit("shadow")))
    journal.append("predictions/shop", rows)
    policy = ModelPolicy(
        name="shop", problem=Problem(decision="d", source="rows", label="late"), watch=Watch(values=(VALUE,))
    )
    route = Route(id="r", environment="test", model="shop", version=1, arms=(ARM,), since=START, reason="")
    now = rows["known_at"].max()
    assert isinstance(now, datetime)
    (verdict,) = watch(policy, CHAMPION, route, journal, now)
    assert (verdict.outcome, verdict.action) == ("warn", "experiment"), verdict.reason
    assert verdict.evidence["rows"] == broken.height


def test_the_picture_shows_the_columns_that_moved(tmp_path: Path) -> None:
    verdict = judge(tmp_path, break_newest(LIVE, pl.lit("<new>").alias("word")))
    drawn = draw_picture("shop: drift", [verdict])
    assert "word: 1.00 in " in drawn
    assert drawn.count("<rect") == 3 + 2 * 4
    assert ">other<" in drawn
    assert "x3" not in drawn
    assert draw_picture("shop: drift", [judge(tmp_path / "quiet", LIVE)]) == ""
    empty = judge(tmp_path / "empty", break_newest(LIVE, pl.lit(None, pl.Float64).alias("x3")))
    drawn = draw_picture("shop: drift", [empty])
    assert "x3: 1.00 in " in drawn
    assert ">missing<" in drawn


def test_where_nothing_changed_the_verdict_states_what_it_would_notice(tmp_path: Path) -> None:
    verdict = judge(tmp_path, LIVE)
    assert (verdict.outcome, verdict.action) == ("pass", "proceed")
    assert "it would notice a shift of 0." in verdict.reason


def test_many_columns_that_moved_call_for_the_action_of_the_policy(tmp_path: Path) -> None:
    changes = [pl.col(f"x{index}") + 0.4 for index in range(5)]
    verdict = judge(tmp_path, LIVE.with_columns(changes))
    assert (verdict.outcome, verdict.action) == ("fail", "retrain")
    ignored = judge(tmp_path / "ignored", LIVE.with_columns(changes[:1]), replace(VALUE, action="ignore"))
    assert (ignored.outcome, ignored.action) == ("warn", "ignore")


def test_a_window_with_few_rows_grows_until_it_can_tell(tmp_path: Path) -> None:
    few = replace(VALUE, window="1h", minimum=100)
    assert judge(tmp_path / "grown", LIVE, few).outcome == "pass"
    assert judge(tmp_path / "short", LIVE, replace(few, minimum=1000)).outcome == "undecided"


def test_a_package_without_a_history_is_still_compared(tmp_path: Path) -> None:
    stored = json.decode(json.encode(profile(build(TRAINED))))
    del stored["history"]
    champion = replace(CHAMPION, files={"profile.json": json.encode(stored)})
    assert judge(tmp_path / "same", LIVE, champion=champion).outcome == "pass"
    broken = judge(tmp_path / "broken", break_newest(LIVE, pl.lit(0.5).alias("x3")), champion=champion)
    assert "x3" in broken.reason


def test_no_rows_are_undecided(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    route = Route(id="r", environment="test", model="shop", version=1, arms=(ARM,), since=START, reason="")
    policy = ModelPolicy(
        name="shop", problem=Problem(decision="d", source="rows", label="late"), watch=Watch(values=(VALUE,))
    )
    (verdict,) = watch(policy, CHAMPION, route, journal, START)
    assert (verdict.outcome, verdict.reason) == ("undecided", "0 rows are too few (minimum 200)")


@pytest.mark.parametrize("rows", [1, 249, 250, 251, 1_000, 1_777])
def test_the_windows_are_sums_of_their_parts(rows: int) -> None:
    reference = profile(build(3_000))
    windows = build_windows(serve(build(rows, seed=2)), reference, 250)
    sizes = [window.now.rows for window in windows]
    assert sizes == [rows, *(size for size in (250, 500, 1_000) if size < rows)]
    for window in windows:
        part = profile(build(rows, seed=2).tail(window.now.rows), reference)
        assert [column.counts for column in window.now.columns] == [column.counts for column in part.columns]
        assert window.before is None or window.before.rows == window.now.rows
        assert window.before is None or merge(window.now, window.before).rows <= rows


def test_the_level_follows_the_interval_without_false_alarms() -> None:
    week = timedelta(days=7)
    assert choose_level(week, timedelta(weeks=26)) == pytest.approx(0.05 / 26 / 4)
    assert choose_level(timedelta(weeks=500), week) == 0.05


@pytest.mark.parametrize("change", ["slides", "is the same", "loses a row", "begins elsewhere", "begins earlier"])
def test_rows_of_the_last_window_have_the_relations_that_a_new_computation_has(change: str) -> None:
    rows, times = build(3000).with_columns(other=pl.col("x0") * 2 + pl.col("x1")), clock(3000)
    reference, kept = profile_reference(rows, times), RelatedRows()
    ids = pl.Series([f"p{index}" for index in range(3000)])
    kept.relate(ids[100:1100], rows[100:1100], reference)
    part = {
        "slides": list(range(400, 1500)),
        "is the same": list(range(100, 1100)),
        "loses a row": [*range(400, 700), *range(701, 1500)],
        "begins elsewhere": list(range(2000, 2500)),
        "begins earlier": list(range(1500)),
    }[change]
    found = kept.relate(ids[part], rows[part], reference)
    assert_frame_equal(found, relate(rows[part], reference), abs_tol=1e-9)
    assert_frame_equal(kept.relate(ids[part], rows[part], reference), found)
