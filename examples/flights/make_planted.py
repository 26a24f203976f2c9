"""Creates the two corrupt files that the demo plants, from the real flights of those days."""

from pathlib import Path

import polars as pl

FOLDER = Path(__file__).parent


def read_day(day: str) -> pl.DataFrame:
    """Return the flights with a scheduled departure on a day (UTC)."""
    flights = pl.read_parquet(FOLDER / "data" / "flights.parquet")
    return flights.filter(pl.col("scheduled_departure").dt.date() == pl.lit(day).str.to_date())


def main() -> None:
    """Write both files to `planted/`."""
    planted = FOLDER / "planted"
    planted.mkdir(exist_ok=True)
    renamed = read_day("2013-04-03").rename({"distance": "dist"})
    metres = read_day("2013-08-07").with_columns((pl.col("distance").cast(pl.Float64) * 1609.344).cast(pl.Int32))
    renamed.write_parquet(planted / "renamed_column.parquet", compression="zstd")
    metres.write_parquet(planted / "metres.parquet", compression="zstd")


if __name__ == "__main__":
    main()
