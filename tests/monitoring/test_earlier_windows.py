"""Drift against earlier live windows: a weekly rhythm is no drift, a break is, and too little history is stated."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from msgspec import json
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Watch, WatchValue
from tidemill.core.route import Arm, Route
from tidemill.data.relations import profile_reference
from tidemill.errors import ConfigurationError
from tidemill.journal.files import FileJournal
from tidemill.monitoring.earlier_windows import read_earlier_windows
from tidemill.monitoring.picture import draw_picture
from tidemill.monitoring.watch import watch
from tidemill.project.configuration import read_policy

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
HOURLY = 5
WEEK = 7 * 24
NAMES = ("load", "price", "x0", "x1", "x2", "x3")
SIGNATURE = Signature(inputs=(), task="classification", classes=("no", "yes"))
ARM = Arm(release="shop/1", version=1, package="p", role="champion", share=1.0)
ROUTE = Route(id="r", environment="test", model="shop", version=1, arms=(ARM,), since=START, reason="")
POLICY = ModelPolicy(name="shop", problem=Problem(decision="d", source="rows", label="late"))
Reference = Literal["release", "rolling", "seasonal"]


def draw(hours: int, seed: int = 0, yearly: float = 0.0) -> pl.DataFrame:
    """Return rows with a daily and a weekly rhythm in two of six columns, with their times."""
    random, count = np.random.default_rng(seed), hours * HOURLY
    hour = np.arange(count) / HOURLY
    weekend = 2.0 * (hour // 24 % 7 >= 5)
    season = 2 * np.sin(hour * 2 * np.pi / 24) + yearly * np.sin(hour * 2 * np.pi / (52 * WEEK))
    wobble = np.repeat(random.normal(0, 0.2, hours), HOURLY)
    columns = {"load": season + weekend + wobble + random.normal(0, 1, count), "price": random.normal(5, 1, count)}
    columns["price"] += weekend
    columns |= {name: random.normal(0, 1, count) for name in NAMES[2:]}
    times = pl.Series([START + timedelta(hours=float(at)) for at in hour]).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(columns).with_columns(times.alias("time"))


def train(rows: pl.DataFrame) -> Model:
    profile = profile_reference(rows.drop("time"), rows["time"])
    manifest = Manifest(name="shop", flavor="f", signature=SIGNATURE)
    return Model(manifest=manifest, files={"profile.json": json.encode(profile)})


# Three days of a week: the champion has never learned from a weekend.
CHAMPION = train(draw(3 * 24, seed=9))


def serve(folder: Path, rows: pl.DataFrame, role: str = "champion") -> FileJournal:
    journal = FileJournal(folder)
    served = rows.select(
        pl.int_range(pl.len()).cast(pl.String).alias("id"),
        pl.lit("shop/1").alias("release"),
        pl.lit(role).alias("role"),
        pl.lit("").alias("key"),
        "time",
        pl.col("time").alias("known_at"),
        pl.struct(NAMES).alias("features"),
    )
    journal.append("predictions/shop", served)
    return journal


def look(
    journal: FileJournal, now: datetime, reference: Reference, window: str = "1d", champion: Model = CHAMPION
) -> Verdict:
    value = WatchValue(value="drift", limit=0.5, action="retrain", minimum=40, window=window, reference=reference)
    (verdict,) = watch(replace(POLICY, watch=Watch(values=(value,))), champion, ROUTE, journal, now)
    return verdict


LIVE = draw(18 * WEEK)
END = START + timedelta(weeks=18)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> FileJournal:
    return serve(tmp_path_factory.mktemp("season"), LIVE)


def test_a_weekly_rhythm_moves_columns_since_the_release_and_not_since_earlier_weeks(journal: FileJournal) -> None:
    ends = [END - timedelta(hours=hours) for hours in range(0, WEEK, 31)]
    by_release = [look(journal, end, "release").outcome for end in ends]
    seasonal = [look(journal, end, "seasonal") for end in ends]
    assert by_release.count("warn") >= 2, "two days of seven are a weekend"
    assert [verdict.outcome for verdict in seasonal] == ["pass"] * len(ends)
    assert "; compared with 16 earlier windows of the same hours of the week" in seasonal[0].reason
    assert seasonal[0].evidence["compared_with"]["reference"] == "seasonal"
    assert look(journal, END, "seasonal", "7d").outcome == "pass"


@pytest.mark.parametrize(
    ("name", "change", "window"),
    [
        ("price", pl.col("price") * 1.6, "7d"),
        ("x2", pl.lit(0.5).alias("x2"), "7d"),
        ("x2", pl.lit(None, pl.Float64).alias("x2"), "1d"),
        ("load", pl.col("load") + 1.5, "1d"),
    ],
)
def test_a_break_of_one_column_is_reported_beside_the_rhythm(
    tmp_path: Path, name: str, change: pl.Expr, window: str
) -> None:
    broken = pl.concat([LIVE.head(-24 * HOURLY), LIVE.tail(24 * HOURLY).with_columns(change)])
    verdict = look(serve(tmp_path, broken), END, "seasonal", window)
    assert verdict.outcome == "warn"
    assert f"1 of 6 columns moved: {name} (" in verdict.reason
    assert ">earlier<" in draw_picture("shop: drift", [verdict])


@pytest.mark.parametrize("reference", ["rolling", "seasonal"])
def test_too_few_earlier_windows_are_stated_and_the_release_is_the_reference(
    journal: FileJournal, reference: Reference
) -> None:
    weeks = timedelta(weeks=4) if reference == "seasonal" else timedelta(days=4)
    verdict = look(journal, START + weeks, reference)
    expected = look(journal, START + weeks, "release")
    assert verdict.outcome == expected.outcome
    assert verdict.reason == (
        f'{expected.reason}; compared with the training rows: `reference = "{reference}"` needs 8 earlier windows in '
        "the journal, which has 3"
    )
    assert verdict.evidence["compared_with"]["reference"] == "release"


def test_a_change_that_lasts_becomes_normal_for_the_rolling_reference(tmp_path: Path) -> None:
    """Columns without a rhythm: the release reports them for ever, the windows before only at first."""
    since = START + timedelta(weeks=10)
    moved = pl.when(pl.col("time") >= since).then(pl.col("x1") + 1).otherwise(pl.col("x1")).alias("x1")
    journal = serve(tmp_path, LIVE.with_columns(moved))
    first, later = since + timedelta(days=1), since + timedelta(weeks=5)
    assert "x1" in look(journal, first, "rolling").reason
    assert "x1" not in look(journal, later, "rolling").reason
    assert "x1" in look(journal, later, "release").reason
    assert "16 windows before" in look(journal, later, "rolling").reason


def test_a_year_of_history_is_compared_with_the_same_time_of_the_year(tmp_path: Path) -> None:
    rows = draw(70 * WEEK, yearly=4.0)
    journal, end = serve(tmp_path, rows), START + timedelta(weeks=70)
    verdict = look(journal, end, "seasonal")
    assert verdict.outcome == "pass"
    assert verdict.evidence["compared_with"] == {
        "asked": "seasonal",
        "reference": "seasonal",
        "windows": 17,
        "of_year": 9,
        "rows": 17 * 24 * HOURLY,
        "needed": 8,
    }
    assert "9 of them at this time of the year" in verdict.reason


def test_shadow_predictions_are_no_earlier_rows(tmp_path: Path) -> None:
    journal = serve(tmp_path, LIVE.tail(10 * WEEK * HOURLY), role="shadow")
    found = read_earlier_windows(journal, "shop", "seasonal", timedelta(days=1), END, NAMES)
    assert (found.windows, found.profile) == (0, None)


def test_windows_longer_than_a_week_do_not_overlap(journal: FileJournal) -> None:
    found = read_earlier_windows(journal, "shop", "seasonal", timedelta(days=8), END, NAMES)
    begins = [span.begin for span in found.spans]
    assert begins == sorted(begins)
    assert {later - earlier for earlier, later in pairwise(begins)} == {timedelta(weeks=2)}
    assert begins[-1] + timedelta(days=8) <= END - timedelta(days=8)


def test_a_reference_that_does_not_exist_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="reference"):
        make_project(tmp_path / "shop", replace={'value = "drift"': 'value = "drift"\nreference = "weekly"'})
    passage = 'value = "age"'
    with pytest.raises(ConfigurationError, match="reference = 'seasonal' has no effect on 'age'") as refused:
        make_project(tmp_path / "other", replace={passage: f'{passage}\nreference = "seasonal"'})
    assert "line" in refused.value.problem
    assert 'value = "drift"' in refused.value.cure


def test_a_journal_that_is_kept_too_short_for_the_reference_is_an_error(tmp_path: Path) -> None:
    passage = 'value = "drift"'
    file = make_project(tmp_path / "shop", replace={passage: f'{passage}\nreference = "seasonal"'}).folder
    policy = file / "tidemill.toml"
    policy.write_text(policy.read_text() + '\n[retention]\njournal = "90d"\n')
    with pytest.raises(ConfigurationError, match="126d for the seasonal reference of drift"):
        read_policy(policy)
    policy.write_text(policy.read_text().replace('"90d"', '"128d"'))
    assert read_policy(policy).retention.journal == "128d"
