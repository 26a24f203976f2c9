"""Makes the two corrupt deliveries that the demo plants, from the real flights of those days."""

from pathlib import Path

import polars as pl

HERE = Path(__file__).parent


def day_of(day: str) -> pl.DataFrame:
    """The flights whose scheduled departure falls on a day (UTC)."""
    flights = pl.read_parquet(HERE / "data" / "flights.parquet")
    return flights.filter(pl.col("scheduled_departure").dt.date() == pl.lit(day).str.to_date())


def main() -> None:
    """Write both files to `planted/`."""
    planted = HERE / "planted"
    planted.mkdir(exist_ok=True)
    renamed = day_of("2013-04-03").rename({"distance": "dist"})
    metres = day_of("2013-08-07").with_columns((pl.col("distance").cast(pl.Float64) * 1609.344).cast(pl.Int32))
    renamed.write_parquet(planted / "renamed_column.parquet", compression="zstd")
    metres.write_parquet(planted / "metres.parquet", compression="zstd")


if __name__ == "__main__":
    main()
