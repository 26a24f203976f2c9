"""Generates a table of orders, some of them late, as an example for a new project."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

_ROWS = 3000


def write_example(folder: Path) -> Path:
    """Write 3,000 generated orders of 90 days to `data/`, always the same, and return the path of the file."""
    generator = np.random.default_rng(7)
    minutes = np.sort(generator.integers(0, 90 * 24 * 60, _ROWS))
    distance = generator.gamma(3.0, 120.0, _ROWS).round(1)
    items = generator.integers(1, 9, _ROWS)
    carrier = generator.choice(["swift", "steady", "thrifty"], _ROWS, p=[0.3, 0.5, 0.2])
    slow = np.select([carrier == "swift", carrier == "steady"], [-0.8, 0.0], 0.9)
    weekend = (minutes // 1440 + 1) % 7 >= 5
    odds = -2.0 + distance / 260 + 0.12 * items + slow + 0.5 * weekend
    late = generator.random(_ROWS) < 1 / (1 + np.exp(-odds))
    begin = datetime(2026, 1, 5, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "order_id": [f"o{number:05}" for number in range(_ROWS)],
            "ordered": [begin + timedelta(minutes=int(minute)) for minute in minutes],
            "distance_km": distance,
            "items": items,
            "carrier": carrier,
            "late": late,
        }
    )
    file = folder / "data" / f"{folder.name}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_csv(file)
    return file
