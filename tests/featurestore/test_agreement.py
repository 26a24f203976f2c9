"""Online and offline agree: what serving looks up is what training joined for that moment."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.core.columns import TIME
from tidemill.core.feature import Aggregate, Entity, FeatureSet, FeatureView
from tidemill.core.source import Source
from tidemill.data.encoding import encode, fit_encoding
from tidemill.data.rows import RowReader
from tidemill.data.source import FileSources
from tidemill.data.timestamps import TIMESTAMP
from tidemill.featurestore.lookup import Lookup, name_entities
from tidemill.featurestore.materialize import materialize
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.featurestore.online import SqliteOnline

START = datetime(2013, 3, 1, tzinfo=UTC)
AIRPORTS = ["JFK", "EWR", "LGA", "a|b", "a", "", "b|c", "\\"]


def view(name: str, keys: tuple[str, ...], **more: Any) -> FeatureView:
    return FeatureView(name=name, entity=Entity(name, keys), source="weather", **more)


VIEWS = (
    view("latest", ("origin",), columns=("wind", "note", "measured")),
    view("pair", ("origin", "dest"), columns=("wind",), ttl="3h"),
    view("all", (), aggregates=(Aggregate(name="wind", column="wind", statistic="mean", window="6h"),)),
    view("mean", ("origin",), aggregates=(Aggregate(name="wind", column="wind", statistic="mean", window="6h"),)),
    view("count", ("gate",), aggregates=(Aggregate(name="wind", column="wind", statistic="count", window="6h"),)),
)
FEATURES = FeatureSet(request=("hour",), views=VIEWS)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> FileSources:
    folder = tmp_path_factory.mktemp("project")
    chance = random.Random(3)
    rows = [
        {
            "origin": chance.choice([*AIRPORTS, None]),
            "dest": chance.choice([*AIRPORTS, None]),
            "gate": chance.choice([1, 2, 3]),
            "time": START + timedelta(minutes=chance.randrange(0, 1200)),
            "wind": chance.choice([None, 1.5, 2.5, 40.0]),
            "note": chance.choice([None, "gusty", "calm"]),
            "measured": (START + timedelta(days=chance.randrange(5))).date(),
        }
        for _ in range(400)
    ]
    late = pl.Series("late", chance.choices([0, 45, 200], k=400))
    pl.DataFrame(rows).with_columns(late).with_columns(
        known_at=pl.col("time") + pl.duration(minutes="late")
    ).write_parquet(folder / "weather.parquet")
    return FileSources(folder, {"weather": Source(path="weather.parquet", time="time", known_at="known_at")})


def asked(now: datetime) -> pl.DataFrame:
    pairs = [(origin, dest) for origin in (*AIRPORTS, "XXX", None) for dest in ("a", "b|c", "", None)]
    rows = pl.DataFrame(pairs, schema={"origin": pl.String, "dest": pl.String}, orient="row")
    times = pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("_tidemill_time")
    return rows.with_columns(times, gate=pl.Series([1.0, None] * (rows.height // 2)), hour=pl.lit(now.hour))


@pytest.mark.parametrize("hour", [0, 3, 7, 12, 20, 24])
def test_materialized_at_a_full_hour_they_are_the_join_at_that_hour(
    sources: FileSources, tmp_path: Path, hour: int
) -> None:
    now = START + timedelta(hours=hour)
    online = SqliteOnline(tmp_path / "online.db")
    for one in VIEWS:
        materialize(one, sources, online, now)
    rows = asked(now)
    joined = OfflineFeatures(sources).join(rows, FEATURES, now)
    looked_up = Lookup(online).fill(FEATURES, rows, now)
    assert looked_up.columns == joined.columns
    for name in FEATURES.names:
        offline, served = joined[name].to_list(), looked_up[name].to_list()
        if name == "latest_measured":  # JSON has no dates: the service sees them as text
            offline = [value and value.isoformat() for value in offline]
        assert served == pytest.approx(offline, nan_ok=True) if name.endswith("wind") else served == offline, name


def test_the_numbers_that_the_model_sees_are_the_same(sources: FileSources, tmp_path: Path) -> None:
    now = START + timedelta(hours=12)
    online = SqliteOnline(tmp_path / "online.db")
    for one in VIEWS:
        materialize(one, sources, online, now)
    rows = asked(now)
    joined = OfflineFeatures(sources).join(rows, FEATURES, now)
    encoding = fit_encoding(joined, FEATURES.names)
    served = Lookup(online).fill(FEATURES, rows, now)
    offline, live = encode(encoding, joined), encode(encoding, served)
    assert live == pytest.approx(offline, nan_ok=True)


def test_later_rows_are_not_served_earlier(sources: FileSources, tmp_path: Path) -> None:
    online = SqliteOnline(tmp_path / "online.db")
    late, early = START + timedelta(hours=12), START + timedelta(hours=3)
    materialize(VIEWS[0], sources, online, late)
    before = online.read("latest", AIRPORTS)
    materialize(VIEWS[0], sources, online, early)
    assert online.read("latest", AIRPORTS) == before


def test_a_source_without_rows_yet_writes_nothing(sources: FileSources, tmp_path: Path) -> None:
    online = SqliteOnline(tmp_path / "online.db")
    assert materialize(VIEWS[0], sources, online, START - timedelta(days=1)) == 0
    assert materialize(VIEWS[0], sources, online, START + timedelta(hours=12)) == len(AIRPORTS)


def test_columns_that_a_request_brings_are_left_as_they_came(tmp_path: Path) -> None:
    online = SqliteOnline(tmp_path / "online.db")
    online.write("mean", [("JFK", START, {"mean_wind": 1.0})])
    features = FeatureSet(request=(), views=(VIEWS[3],))
    brought = pl.DataFrame({"origin": ["JFK"], "mean_wind": [9.0]})
    assert Lookup(online).fill(features, brought, START).equals(brought)


def test_a_request_without_the_keys_gets_nulls(tmp_path: Path) -> None:
    found = Lookup(SqliteOnline(tmp_path / "online.db")).fill(FEATURES, pl.DataFrame({"hour": [1, 2]}), START)
    assert found["latest_wind"].to_list() == [None, None]


def test_a_row_older_than_its_view_allows_is_not_served(tmp_path: Path) -> None:
    online = SqliteOnline(tmp_path / "online.db")
    online.write("pair", [("JFK|LGA", START, {"pair_wind": 2.0})])
    features = FeatureSet(request=(), views=(VIEWS[1],))
    rows = pl.DataFrame({"origin": ["JFK"], "dest": ["LGA"]})
    for hours, wanted in ((3, 2.0), (3.01, None)):
        found = Lookup(online).fill(features, rows, START + timedelta(hours=hours))
        assert found["pair_wind"].to_list() == [wanted]


class History:
    """The rows of a source in memory."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows

    def history(self, _: FeatureView, until: datetime) -> pl.DataFrame:
        return self.rows.filter(pl.col("_tidemill_known_at") <= until)


_MINUTES = st.integers(0, 240)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), _MINUTES, st.integers(0, 90), st.none() | st.integers(0, 9)), min_size=1
    ),
    filled=_MINUTES,
    later=st.integers(0, 180),
    ttl=st.integers(0, 120),
)
def test_the_age_of_a_value_counts_from_when_it_happened_on_both_sides(
    rows: list[tuple[int, int, int, int | None]], filled: int, later: int, ttl: int
) -> None:
    written, now = START + timedelta(minutes=filled), START + timedelta(minutes=filled + later)
    known = [(key, at, at + delay, value) for key, at, delay, value in rows if at + delay <= filled]
    history = pl.DataFrame(
        [
            (key, START + timedelta(minutes=at), START + timedelta(minutes=at + delay), value)
            for key, at, delay, value in rows
        ],
        schema={"id": pl.Int64, "_tidemill_time": TIMESTAMP, "_tidemill_known_at": TIMESTAMP, "x": pl.Int64},
        orient="row",
    ).filter(pl.col("_tidemill_known_at") <= written)
    risk = FeatureView(
        name="risk",
        entity=Entity("it", ("id",)),
        source="s",
        columns=("x",),
        aggregates=(Aggregate(name="n", column="x", statistic="count", window="30d"),),
        ttl=f"{ttl}m",
        every="0s",
    )
    features, sources, asked_rows = (
        FeatureSet(request=(), views=(risk,)),
        History(history),
        pl.DataFrame({"id": range(4)}),
    )
    with TemporaryDirectory() as folder:
        store = SqliteOnline(Path(folder) / "online.db")
        materialize(risk, sources, store, written)  # type: ignore[arg-type]
        served = Lookup(store).fill(features, asked_rows, now)
    timed = asked_rows.with_columns(pl.lit(now).cast(TIMESTAMP).alias("_tidemill_time"))
    joined = OfflineFeatures(sources).join(timed, features, now)  # type: ignore[arg-type]
    assert served["risk_x"].to_list() == joined["risk_x"].to_list()
    assert served["risk_n"].to_list() == joined["risk_n"].to_list()
    for key in range(4):
        latest = max(((at, seen) for other, at, seen, _ in known if other == key), default=None)
        if latest is None or filled + later - latest[0] > ttl:
            assert served["risk_x"][key] is None


def test_entities_are_named_without_confusion() -> None:
    pairs = [("a|b", "c"), ("a", "b|c"), ("a\\", "b|c"), ("a\\|b", "c"), ("", ""), ("a", None), (None, None)]
    frame = pl.DataFrame(pairs, schema=["x", "y"], orient="row")
    names = name_entities(frame, ("x", "y"))
    assert names[-2:] == [None, None]
    assert len(set(names[:-2])) == len(pairs) - 2
    assert name_entities(pl.DataFrame({"k": [7, None]}), ("k",)) == name_entities(
        pl.DataFrame({"k": [7.0, None]}), ("k",)
    )
    assert name_entities(frame, ()) == [""] * len(pairs)


@pytest.mark.parametrize("known_at", [None, "known"])
def test_a_corrected_row_counts_once_online_and_offline(tmp_path: Path, known_at: str | None) -> None:
    """The first refund was 10, not 100; the third one was recorded for another customer."""
    now = START + timedelta(hours=9)
    first = {"refund": ["r1", "r2", "r3"], "customer": [1, 1, 2], "amount": [100.0, 50.0, 7.0]}
    second = {"refund": ["r1", "r3"], "customer": [1, 1], "amount": [10.0, 7.0]}
    for name, batch, hour in (("a", first, 4), ("b", second, 6)):
        times = (pl.lit(START + timedelta(hours=at)).alias(column) for column, at in (("at", 4), ("known", hour)))
        pl.DataFrame(batch).with_columns(times).write_parquet(tmp_path / f"{name}.parquet")
    source = Source(path="*.parquet", time="at", key=("refund",), known_at=known_at)
    refunds = FeatureView(
        name="refunds",
        entity=Entity("customer", ("customer",)),
        source="weather",
        columns=("amount",),
        aggregates=tuple(Aggregate(name=s, column="amount", statistic=s, window="1d") for s in ("count", "sum")),
    )
    features, found = FeatureSet(request=(), views=(refunds,)), FileSources(tmp_path, {"weather": source})
    online = SqliteOnline(tmp_path / "online.db")
    materialize(refunds, found, online, now)
    rows = pl.DataFrame({"customer": [1, 2]})
    expected = [(7.0, 3.0, 67.0), (None, 0.0, None)]
    assert Lookup(online).fill(features, rows, now).select(features.names).rows() == expected
    at = [pl.lit(START + timedelta(hours=hour)).cast(pl.Datetime("us", "UTC")).alias("at") for hour in (5, 9)]
    spine = pl.concat([rows.with_columns(one) for one in at]).rename({"at": TIME})
    joined = OfflineFeatures(found).join(spine, features, now).select(features.names).rows()
    assert joined[2:] == expected
    assert joined[:2] == (expected if known_at is None else [(50.0, 2.0, 150.0), (7.0, 1.0, 7.0)])


@pytest.mark.parametrize("stored", [pl.Series([7, 8]), pl.Series([7.0, 8.0]), pl.Series(["7", "8"])], ids=str)
@pytest.mark.parametrize("asked_key", [7, 7.0, "7"])
def test_a_request_names_its_entity_by_value(tmp_path: Path, stored: pl.Series, asked_key: Any) -> None:
    pl.DataFrame({"gate": stored, "wind": [1.5, 2.5]}).write_parquet(tmp_path / "gates.parquet")
    gates = view("gates", ("gate",), columns=("wind",))
    online = SqliteOnline(tmp_path / "online.db")
    sources = FileSources(tmp_path, {"weather": Source(path="gates.parquet")})
    materialize(gates, sources, online, datetime.now(UTC) + timedelta(hours=1))
    rows = RowReader(()).read_json([{"gate": asked_key}, {"gate": None}], ("gate",))
    found = Lookup(online).fill(FeatureSet(request=(), views=(gates,)), rows, datetime.now(UTC))
    assert found["gates_wind"].to_list() == [1.5, None]


def test_a_request_names_a_time_as_text(tmp_path: Path) -> None:
    moment = START + timedelta(hours=5, microseconds=120)
    pl.DataFrame({"slot": [moment, START], "wind": [1.5, 2.5]}).write_parquet(tmp_path / "slots.parquet")
    slots = view("slots", ("slot",), columns=("wind",))
    online = SqliteOnline(tmp_path / "online.db")
    sources = FileSources(tmp_path, {"weather": Source(path="slots.parquet")})
    materialize(slots, sources, online, datetime.now(UTC) + timedelta(hours=1))
    texts = ["2013-03-01T05:00:00.00012Z", "2013-03-01 06:00:00.000120+01:00", "2013-03-01", "2013-03-01T00:00:00"]
    found = Lookup(online).fill(FeatureSet(request=(), views=(slots,)), pl.DataFrame({"slot": texts}), START)
    assert found["slots_wind"].to_list() == [1.5, 1.5, 2.5, 2.5]
