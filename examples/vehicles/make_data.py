"""Writes the rows of two vehicle models, with a seed: `python make_data.py`, or `python make_data.py --named`.

A fleet sends a row every two minutes, and learns half an hour later whether the vehicle stopped for a repair. First all
vehicles are of model A; then all are of model B, which has other sensors and other faults; then model A returns, and so
on. No column names the vehicle model. With `--named`, the column `vehicle` does: the first 3,000 rows are of model A,
and the rows of both models are mixed afterwards.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2026, 1, 5, tzinfo=UTC)
EVERY = timedelta(minutes=2)
FLEETS = (("A", 3_000), ("B", 1_500), ("A", 1_500), ("B", 1_500), ("A", 1_500))
LABEL_AFTER = timedelta(minutes=30)
SEED = 12


def make_fleet(random: np.random.Generator, fleet: str, rows: int) -> pl.DataFrame:
    """Return rows of one vehicle model: its sensors, and whether the vehicle stopped for a repair."""
    is_a = fleet == "A"
    load = random.uniform(0, 1, rows)
    speed = random.normal(62 if is_a else 55, 12, rows)
    temperature = random.normal(84 if is_a else 93, 5, rows) + 6 * load
    pressure = random.normal(2.4 if is_a else 3.1, 0.25, rows)
    vibration = random.gamma(4, 0.25 if is_a else 0.35, rows)
    # In model A, heat under load is the fault; in model B, low pressure with vibration is.
    fault = (temperature - 84) * load - 2.5 if is_a else (3.1 - pressure) * 8 + (vibration - 1.4) * 2
    repair = random.uniform(0, 1, rows) < 1 / (1 + np.exp(-4 * fault))
    return pl.DataFrame(
        {
            "speed": speed.round(2),
            "load": load.round(3),
            "temperature": temperature.round(2),
            "pressure": pressure.round(3),
            "vibration": vibration.round(3),
            "repair": np.where(repair, "yes", "no"),
        }
    )


def make_rows(fleets: Sequence[tuple[str, int]] = FLEETS) -> pl.DataFrame:
    """Return the rows of all fleets, one after the other, with their times and ids."""
    random = np.random.default_rng(SEED)
    return add_times(pl.concat([make_fleet(random, fleet, number) for fleet, number in fleets]))


def make_named_rows(alone: int = 3_000, mixed: int = 6_000) -> pl.DataFrame:
    """Return rows with the column `vehicle`: first those of model A alone, then mixed rows of both models."""
    random = np.random.default_rng(SEED)
    fleets = {
        fleet: make_fleet(random, fleet, alone + mixed).with_columns(pl.lit(fleet).alias("vehicle")) for fleet in "AB"
    }
    is_b = (random.random(alone + mixed) < 0.5) & (np.arange(alone + mixed) >= alone)
    named = [fleet.with_row_index() for fleet in fleets.values()]
    chosen = pl.concat([named[0].filter(~is_b), named[1].filter(is_b)]).sort("index").drop("index")
    return add_times(chosen.select("vehicle", pl.exclude("vehicle")))


def add_times(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with their ids, their times and the times of their labels."""
    times = pl.Series("sent", [START + number * EVERY for number in range(rows.height)])
    return rows.select(
        pl.Series("row", [f"r{number:05}" for number in range(rows.height)]),
        times.dt.cast_time_unit("us"),
        (times + LABEL_AFTER).alias("known").dt.cast_time_unit("us"),
        pl.all(),
    )


if __name__ == "__main__":
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    rows = make_named_rows() if "--named" in sys.argv else make_rows()
    rows.write_parquet(folder / "vehicles.parquet")
