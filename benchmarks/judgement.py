"""Time of the checks of data: profiles of large tables with a stored reference, and validation by a schema.

With `--drift`, the false alarms and the power of the drift check beside common rules (see `_drift`).

The floor is one lazy pass of Polars for simple statistics: nulls, mean, deviation, minimum and maximum.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks._drift import format_tables
from benchmarks._report import Figure, build_figure, describe_machine, format_table
from tidemill.checks.drift import drift
from tidemill.checks.inference import infer_schema
from tidemill.checks.table import validate
from tidemill.data.statistics import Profile, merge, profile

FIGURES = (
    Figure("profile of 1M rows x 20 columns, processor time", "s", "≤ 1.5"),
    Figure("profile of 1M rows x 20 columns", "s"),
    Figure("merge of two profiles", "ms"),
    Figure("drift of 20 columns", "ms"),
    Figure("validation of 1M rows x 20 columns by a schema", "s"),
)


def build_rows(number: int) -> pl.DataFrame:
    """Return rows with twenty columns of different types."""
    random = np.random.default_rng(7)
    columns = {f"number {index}": pl.Series(random.normal(size=number)) for index in range(8)}
    columns |= {f"count {index}": pl.Series(random.integers(0, 10 ** (index + 1), number)) for index in range(4)}
    columns |= {
        f"word {words}": pl.Series(random.integers(0, words, number)).cast(pl.String)
        for words in (5, 50, 500, 5_000, 50_000)
    }
    gaps = np.where(random.random(number) < 0.1, np.nan, random.exponential(size=number))
    columns |= {"gaps": pl.Series(gaps).fill_nan(None), "flag": pl.Series(random.random(number) < 0.5)}
    columns["time"] = pl.Series(random.integers(0, 10**15, number)).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(columns)


def compute_floor(frame: pl.DataFrame) -> None:
    """Compute simple statistics of every column in one pass."""
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    expressions = [pl.all().null_count().name.suffix(" nulls")]
    for name in numbers:
        value = pl.col(name)
        expressions += [
            value.mean().alias(f"{name} mean"),
            value.std().alias(f"{name} deviation"),
            value.min().alias(f"{name} low"),
            value.max().alias(f"{name} high"),
        ]
    frame.lazy().select(expressions).collect()


def time_repeats(
    work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the seconds of each repeat, after one repeat that is not counted."""
    work()
    durations = []
    for _ in range(repeats):
        started = clock()
        work()
        durations.append(clock() - started)
    return durations


def measure(frame: pl.DataFrame, reference: Profile, repeats: int) -> dict[str, tuple[list[float], list[float] | str]]:
    """Return the values of each figure: ours and the floor's."""
    now = profile(frame, reference)
    schema = infer_schema(frame, "rows")
    cpu = time_repeats(lambda: profile(frame, reference), repeats, time.process_time)
    values: list[tuple[list[float], list[float] | str]] = [
        (cpu, time_repeats(lambda: compute_floor(frame), repeats, time.process_time)),
        (time_repeats(lambda: profile(frame, reference), repeats), time_repeats(lambda: compute_floor(frame), repeats)),
        ([value * 1000 for value in time_repeats(lambda: merge(now, now), repeats)], "there is none"),
        (
            [
                value * 1000
                for value in time_repeats(
                    lambda: drift(now, reference, action="retrain", subject="rows", limit=0.0, minimum=1), repeats
                )
            ],
            "there is none",
        ),
        (
            time_repeats(lambda: validate(frame, schema, "rows"), repeats),
            time_repeats(lambda: compute_floor(frame), repeats),
        ),
    ]
    return dict(zip((figure.name for figure in FIGURES), values, strict=True))


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three repeats instead of seven")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--drift", action="store_true", help="print the false alarms and the power of the drift check")
    parser.add_argument("--windows", type=int, default=200, help="the number of windows without a change")
    options = parser.parse_args()
    if options.drift:
        print(format_tables(20 if options.quick else options.windows, quick=options.quick))
        return
    repeats = 3 if options.quick else 7
    frame = build_rows(1_000_000)
    reference = profile(frame.head(100_000))
    results = {
        figure.name: build_figure(figure, *pair, {})
        for figure, pair in zip(FIGURES, measure(frame, reference, repeats).values(), strict=True)
    }
    printed = f"{describe_machine()}; medians of {repeats}\n\n{format_table(FIGURES, results)}"
    print(json.dumps(results, indent=2, ensure_ascii=False) if options.json else printed)


if __name__ == "__main__":
    main()
