"""False alarms and power of the drift check, beside common rules, on the same windows.

Independent rows: 15 numbers of five families and 5 texts of 3 to 200 values; a wobble is in the reference too, where
each block of 1,000 rows has its own. Real rows: the hourly weather of the
flights example in its own order, the reference being the first part of the year.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tidemill.checks.column_tests import column_tests
from tidemill.checks.drift import drift
from tidemill.checks.effects import compute_psi
from tidemill.core.check import Verdict
from tidemill.data.marks import profile_history
from tidemill.data.relations import profile_reference
from tidemill.data.statistics import ColumnProfile, Profile, profile
from tidemill.monitoring.inputs import build_relation_windows, build_windows

WEATHER = Path(__file__).parents[1] / "examples" / "flights" / "data" / "weather.parquet"
_REFERENCE_ROWS = 100_000
_VALUES = 3, 8, 20, 50, 200
_DEVIATIONS = 1.0, 15.0, 1.15, 2.0, 6**0.5
_WHOLE = 4  # the family of whole numbers, of which any wobble is a break
_GAPS = 1, 3, 7, 12
_MOVED = 0, 6
_BLOCK = 1_000
START = datetime(2026, 1, 1, tzinfo=UTC)
_ROWS = 1_000, 10_000, 100_000

Rules = dict[str, bool]


def build_independent(
    rows: int, seed: int, *, shift: float = 0.0, category: float = 0.0, missing: float = 0.0, wobble: float = 0.0
) -> pl.DataFrame:
    """Return independent rows; the changes are in two columns, a wobble in all numbers but whole ones,
    each by its own amount.

    `shift` and `wobble` are in standard deviations, `category` and `missing` in shares.
    """
    random = np.random.default_rng(seed)
    families: list[Callable[[], Any]] = [
        lambda: random.normal(0, 1, rows),
        lambda: random.normal(100, 15, rows),
        lambda: random.lognormal(0, 0.75, rows),
        lambda: random.exponential(2, rows),
        lambda: random.poisson(6, rows).astype(float),
    ]
    columns: dict[str, pl.Series] = {}
    for index in range(15):
        values = families[index % 5]()
        moved = shift if index in _MOVED else 0.0
        moved += random.normal(0, wobble) if wobble and index % 5 != _WHOLE else 0.0
        values = values + moved * _DEVIATIONS[index % 5] if moved else values
        gaps = (0.02 if index in _GAPS else 0.0) + (missing if index in _MOVED else 0.0)
        columns[f"number {index}"] = pl.Series(np.where(random.random(rows) < gaps, np.nan, values)).fill_nan(None)
    for index, size in enumerate(_VALUES):
        weights = 1 / np.arange(1, size + 1) ** 1.1
        shares = weights / weights.sum()
        if index < 2:
            shares[[0, -1]] += (-category, category)
        names = pl.Series([f"v{value}" for value in range(size)])
        columns[f"word {size}"] = names[random.choice(size, rows, p=shares)]
    return pl.DataFrame(columns)


SCENARIOS: dict[str, dict[str, float]] = {
    "nothing changed": {},
    "a wobble of .05 sd in all other numbers": {"wobble": 0.05},
    "a shift of .25 sd in 2 of 20 columns": {"shift": 0.25},
    "5 points of a category in 2 of 20": {"category": 0.05},
    "5 points missing in 2 of 20": {"missing": 0.05},
}
NULLS = 2


def build_wobbling() -> Profile:
    """Return the profile of a hundred blocks of a thousand rows, a row a minute, each with a wobble of its own."""
    count = _REFERENCE_ROWS // _BLOCK
    frame = pl.concat([build_independent(_BLOCK, 50_000 + index, wobble=0.05) for index in range(count)])
    times = pl.Series([START + timedelta(minutes=row) for row in range(frame.height)])
    return profile_history(frame, times)


def apply_rules(now: Profile, reference: Profile, verdict: Verdict) -> Rules:
    """Return whether each rule raises an alarm."""
    pairs = [(column, known) for column in now.columns if (known := reference.column(column.name)) is not None]
    tests = [min(test["p_value"] for test in column_tests(*pair) if test["kind"] != "missing") for pair in pairs]
    return {
        "tidemill": verdict.outcome != "pass",
        "p < .05, any column": min(tests) < 0.05,
        "p < .05 / 20": min(tests) < 0.05 / len(pairs),
        "PSI > .2, any column": max(_measure_psi(*pair) for pair in pairs) > 0.2,
        "30 % of columns, p < .05": np.mean(np.asarray(tests) < 0.05) > 0.3,
    }


def _measure_psi(now: ColumnProfile, reference: ColumnProfile) -> float:
    def share(column: ColumnProfile) -> Any:
        counts = [*column.values.values(), column.other] if column.type == "text" else column.counts
        return np.asarray(counts, float) / max(sum(counts), 1)

    return compute_psi(share(now), share(reference))


def judge(now: Profile, reference: Profile, **options: Any) -> Verdict:
    """Return the verdict with the settings that `init` writes."""
    return drift(now, reference, subject="x", limit=0.3, action="retrain", minimum=200, **options)


def measure_independent(windows: int, sizes: tuple[int, ...] = _ROWS) -> dict[str, dict[str, dict[int, float]]]:
    """Return for each scenario, rule and number of rows the share of windows with an alarm."""
    plain, wobbling = profile(build_independent(_REFERENCE_ROWS, 1)), build_wobbling()
    shares: dict[str, dict[str, dict[int, float]]] = {}
    for place, (name, changes) in enumerate(SCENARIOS.items()):
        for rows in sizes:
            count = windows if place < NULLS else max(windows // 4, 5)
            count = max(count // 4, 5) if rows >= _REFERENCE_ROWS else count
            reference = wobbling if "wobble" in changes else plain
            found: list[Rules] = []
            for index in range(count):
                now = profile(build_independent(rows, 1_000 * (place + 2) + index, **changes), reference)
                found.append(apply_rules(now, reference, judge(now, reference, seconds=_BLOCK * 60.0)))
            for rule in found[0]:
                share = float(np.mean([alarms[rule] for alarms in found]))
                shares.setdefault(name, {}).setdefault(rule, {})[rows] = share
    return shares


DAMAGES: dict[str, Callable[[pl.DataFrame, str], pl.Expr]] = {
    "one value": lambda frame, name: pl.lit(frame[name].drop_nulls()[0]).alias(name),
    "all missing": lambda frame, name: pl.lit(None, frame.schema[name]).alias(name),
    "a twentieth missing": lambda _, name: pl.when(pl.int_range(pl.len()) % 20 > 0).then(name).alias(name),
    "units x 1.6": lambda _, name: pl.col(name) * 1.6,
    "permuted": lambda _, name: pl.col(name).shuffle(seed=3),
}
DAMAGED = "temp", "humid", "pressure", "wind_speed"


def measure_real(every: timedelta = timedelta(days=2)) -> dict[str, float]:
    """Return the share of windows with an alarm, in the real order, and with a column that broke 500 rows ago."""
    rows = pl.read_parquet(WEATHER)
    time = next(name for name, kind in rows.schema.items() if kind.is_temporal())
    rows = rows.sort(time)
    first, last = rows[time][0], rows[time][-1]
    features = [name for name, kind in rows.schema.items() if not kind.is_temporal()]
    alarms: dict[str, list[bool]] = {}
    trained, now, reference = first, first + (last - first) / 3, None
    while now < last:
        if reference is None or now - trained > timedelta(days=30):
            past = rows.filter(pl.col(time) < now)
            reference, trained = profile_reference(past.select(features), past[time]), now
        window = rows.filter(pl.col(time) >= max(trained, now - timedelta(days=14)), pl.col(time) < now)
        if window.height >= 700:
            blind = profile(window.select(features), Profile(rows=reference.rows, columns=reference.columns))
            independent = judge(blind, Profile(rows=reference.rows, columns=reference.columns))
            alarms.setdefault("nothing, as independent rows", []).append(independent.outcome != "pass")
            alarms.setdefault("nothing", []).append(_is_alarm(window, time, features, reference))
            if len(alarms["nothing"]) % 4 == 1:
                for damage, change in DAMAGES.items():
                    for name in DAMAGED:
                        newest = window.tail(500).with_columns(change(window.tail(500), name))
                        broken = pl.concat([window.head(-500), newest], how="vertical_relaxed")
                        alarms.setdefault(damage, []).append(_is_alarm(broken, time, features, reference))
        now += every
    return {name: float(np.mean(found)) for name, found in alarms.items()}


def _is_alarm(window: pl.DataFrame, time: str, features: list[str], reference: Profile) -> bool:
    rows = window.select(pl.struct(features).alias("features"), pl.col(time).alias("time"), known_at=pl.col(time))
    whole, *recent = build_windows(rows, reference, 250)
    verdict = judge(
        whole.now,
        reference,
        seconds=whole.seconds,
        relations=lambda: build_relation_windows(rows, reference, 250),
        recent=recent,
    )
    return verdict.outcome != "pass"


def format_tables(windows: int, *, quick: bool) -> str:
    """Return both tables as Markdown."""
    sizes = _ROWS[:2] if quick else _ROWS
    shares = measure_independent(windows, sizes)
    rules = list(next(iter(shares.values())))
    head = f"independent rows, share of windows with an alarm at {', '.join(f'{size:,}' for size in sizes)} rows"
    lines = [f"| {head} | " + " | ".join(rules) + " |", "|---" * (len(rules) + 1) + "|"]
    for name, found in shares.items():
        cells = (" / ".join(f"{share:.2f}" for share in found[rule].values()) for rule in rules)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    real = measure_real(timedelta(days=7 if quick else 2))
    lines += ["", "| hourly weather in its order, what happened 500 rows ago | windows with an alarm |", "|---|---|"]
    lines += [f"| {name} | {share:.2f} |" for name, share in real.items()]
    return "\n".join(lines)
