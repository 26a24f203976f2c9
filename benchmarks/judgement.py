"""What judging costs: profiles of large tables against a stored reference, and schemas held against them.

The floor is what one lazy pass of Polars takes for the plain numbers: nulls, mean, deviation, least and greatest.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks._report import Figure, assembled, machine, table
from tidemill.checks.drift import drift
from tidemill.checks.inference import infer_schema
from tidemill.checks.table import validate
from tidemill.data.statistics import Profile, merge, profile

FIGURES = (
    Figure("profile of 1M rows x 20 columns, processor time", "s", "≤ 1.5"),
    Figure("profile of 1M rows x 20 columns", "s"),
    Figure("merge of two profiles", "ms"),
    Figure("drift of 20 columns", "ms"),
    Figure("schema held against 1M rows x 20 columns", "s"),
)


def rows(number: int) -> pl.DataFrame:
    """Twenty columns of every kind."""
    random = np.random.default_rng(7)
    columns = {f"number {place}": pl.Series(random.normal(size=number)) for place in range(8)}
    columns |= {f"count {place}": pl.Series(random.integers(0, 10 ** (place + 1), number)) for place in range(4)}
    columns |= {
        f"word {many}": pl.Series(random.integers(0, many, number)).cast(pl.String)
        for many in (5, 50, 500, 5_000, 50_000)
    }
    gaps = np.where(random.random(number) < 0.1, np.nan, random.exponential(size=number))
    columns |= {"gaps": pl.Series(gaps).fill_nan(None), "flag": pl.Series(random.random(number) < 0.5)}
    columns["time"] = pl.Series(random.integers(0, 10**15, number)).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(columns)


def plain(frame: pl.DataFrame) -> None:
    """The floor: the plain numbers of every column in one pass."""
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    wanted = [pl.all().null_count().name.suffix(" nulls")]
    for name in numbers:
        value = pl.col(name)
        wanted += [
            value.mean().alias(f"{name} mean"),
            value.std().alias(f"{name} deviation"),
            value.min().alias(f"{name} low"),
            value.max().alias(f"{name} high"),
        ]
    frame.lazy().select(wanted).collect()


def seconds(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """What each of several repeats takes, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        began = clock()
        work()
        taken.append(clock() - began)
    return taken


def measured(frame: pl.DataFrame, reference: Profile, repeats: int) -> dict[str, tuple[list[float], list[float] | str]]:
    """Each figure: ours and the floor's."""
    now = profile(frame, reference)
    schema = infer_schema(frame, "rows")
    judging = {"subject": "rows", "limit": 0.0, "minimum": 1}
    cpu = seconds(lambda: profile(frame, reference), repeats, time.process_time)
    found: list[tuple[list[float], list[float] | str]] = [
        (cpu, seconds(lambda: plain(frame), repeats, time.process_time)),
        (seconds(lambda: profile(frame, reference), repeats), seconds(lambda: plain(frame), repeats)),
        ([one * 1000 for one in seconds(lambda: merge(now, now), repeats)], "there is none"),
        (
            [one * 1000 for one in seconds(lambda: drift(now, reference, action="retrain", **judging), repeats)],  # type: ignore[arg-type]
            "there is none",
        ),
        (seconds(lambda: validate(frame, schema, "rows"), repeats), seconds(lambda: plain(frame), repeats)),
    ]
    return dict(zip((figure.name for figure in FIGURES), found, strict=True))


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three repeats instead of seven")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    repeats = 3 if options.quick else 7
    frame = rows(1_000_000)
    reference = profile(frame.head(100_000))
    found = {
        figure.name: assembled(figure, *pair, {})
        for figure, pair in zip(FIGURES, measured(frame, reference, repeats).values(), strict=True)
    }
    printed = f"{machine()}; medians of {repeats}\n\n{table(FIGURES, found)}"
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else printed)


if __name__ == "__main__":
    main()
