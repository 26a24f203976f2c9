"""Changes that leave every column as it was: how often the check of drift notices them, on ten tables.

One of two columns that depend on each other is permuted, turned around (its largest value where the smallest was), or
put in the order of the other one. The values of each column stay the same, so only the relations between columns show
it. In five tables, no column depends on one other alone, or not in its mean.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks._drift import WEATHER
from benchmarks._report import describe_machine
from benchmarks._stream_tables import STREAMS, write_table
from benchmarks.canary import find_interval
from tidemill.checks.drift import Window, drift
from tidemill.data.arrays import Floats
from tidemill.data.relations import profile_joint, profile_reference
from tidemill.data.statistics import Profile, profile

_CACHE = Path("~/.cache/tidemill-benchmarks").expanduser()
_START = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_ROWS, _SEED = 15_000, 7
_WEATHER = "temp", "dewp", "humid", "wind_speed", "pressure"


class Table(NamedTuple):
    """Rows without an order, and two columns that depend on each other, alone or with others."""

    name: str
    rows: pl.DataFrame
    first: str
    second: str


def make_tables(cache: Path, *, quick: bool) -> Iterator[Table]:
    """Return synthetic tables, the hourly weather of the flights, and the numbers of three real streams."""
    random, rows = np.random.default_rng(5), 2 * _MOST_ROWS
    normal, angle = random.normal(size=(3, rows)), random.uniform(0, 2 * np.pi, rows)
    pair = {"x": normal[0], "y": 0.7 * normal[0] + 0.7 * normal[1], "w": normal[2]}
    yield Table("synthetic", pl.DataFrame(pair), "x", "y")
    for others, name in ((2, "two"), (3, "three"), (4, "four")):
        bits = random.random((others, rows)) < 0.5
        parity = np.logical_xor.reduce(bits) ^ (random.random(rows) < 0.05)
        columns = {f"x{index}": bits[index].astype(float) for index in range(others)} | {"w": normal[2]}
        yield Table(f"exclusive or of {name}", pl.DataFrame(columns | {"y": parity.astype(float)}), "x0", "y")
    product = {"x": normal[0], "w": normal[1], "y": np.sign(normal[0] * normal[1]) * np.abs(normal[2])}
    yield Table("sign of a product", pl.DataFrame(product), "x", "y")
    circle = {"x": np.cos(angle) + 0.1 * normal[0], "y": np.sin(angle) + 0.1 * normal[1], "w": normal[2]}
    yield Table("circle", pl.DataFrame(circle), "x", "y")
    yield Table("weather", pl.read_parquet(WEATHER).select(_WEATHER).drop_nulls(), "temp", "dewp")
    for stream in STREAMS:
        if quick or stream.name not in ("electricity", "bicycles", "air"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            table = write_table(stream, cache, Path(folder) / "rows.csv")
        names = [name for name in table.columns if table[name].dtype.is_numeric() and table[name].n_unique() > 20]
        numbers = table.select(name for name in names if name != stream.label).drop_nulls()
        correlations = np.abs(np.nan_to_num(np.corrcoef(numbers.to_numpy().T))) - np.eye(numbers.width)
        first, second = np.unravel_index(np.where(correlations > 0.98, 0, correlations).argmax(), correlations.shape)
        yield Table(stream.name, numbers, numbers.columns[int(first)], numbers.columns[int(second)])


def change(rows: pl.DataFrame, table: Table, seed: int) -> dict[str, pl.DataFrame]:
    """Return the rows as they are, and with each of the changes."""
    values, first = rows[table.second].to_numpy(), rows[table.first].to_numpy()

    def order_by(key: Floats) -> pl.DataFrame:
        ranks = np.argsort(np.argsort(key, kind="stable"), kind="stable")
        return rows.with_columns(pl.Series(table.second, np.sort(values)[ranks]))

    return {
        "nothing": rows,
        "permuted": rows.with_columns(pl.col(table.second).shuffle(seed=seed)),
        "turned around": order_by(-values),
        "ordered as the other": order_by(first),
    }


def is_noticed(rows: pl.DataFrame, reference: Profile) -> bool:
    """Return whether a column or a relation has moved."""
    seconds = rows.height * 60.0

    def relate() -> list[Window]:
        return [Window(now=found, seconds=seconds) for found in profile_joint(rows, (0, rows.height), reference)]

    now = profile(rows, reference)
    verdict = drift(
        now, reference, subject="x", limit=0.5, action="ignore", minimum=100, seconds=seconds, relations=relate
    )
    return verdict.outcome != "pass"


def measure(table: Table, windows: int) -> dict[str, int]:
    """Return in how many windows each change is noticed; windows are drawn from the rows after the reference."""
    rows = table.rows.sample(fraction=1, shuffle=True, seed=_SEED)
    half = min(rows.height // 2, _MOST_ROWS)
    times = pl.Series([_START + timedelta(minutes=row) for row in range(half)])
    reference, size = profile_reference(rows[:half], times), 2_000 if half > 6_000 else 1_000
    found: dict[str, int] = {}
    for seed in range(windows):
        for name, changed in change(rows[half:].sample(size, seed=seed), table, seed).items():
            found[name] = found.get(name, 0) + is_noticed(changed, reference)
    return found


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joint", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 windows instead of 50, without real streams")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--data", type=Path, default=_CACHE, help="the folder of the downloaded packages")
    options = parser.parse_args()
    windows = 5 if options.quick else 50
    found = {table.name: measure(table, windows) for table in make_tables(options.data, quick=options.quick)}
    if options.json:
        print(json.dumps({"windows": windows, "noticed": found}, indent=2))
        return
    changes = list(found["synthetic"])
    print(f"| noticed in {windows} windows | {' | '.join(changes)} |\n{'|---' * (len(changes) + 1)}|")
    for name, counts in found.items():
        print(f"| {name} | {' | '.join(str(counts.get(each, '–')) for each in changes)} |")
    alarms, total = sum(counts["nothing"] for counts in found.values()), windows * len(found)
    low, high = find_interval(alarms, total)
    print(f"\nfalse alarms: {alarms} of {total} (95 % interval {low:.3f} to {high:.3f}); {describe_machine()}")


if __name__ == "__main__":
    main()
