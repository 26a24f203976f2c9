"""Turns measured values into figures, and figures into a table or one JSON object."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

Values = list[float] | str
"""Measured values, or the reason why there are none."""


class Figure(NamedTuple):
    """A measured quantity: its name, its unit, and the promised value."""

    name: str
    unit: str
    promise: str = ""


def build_figure(figure: Figure, ours: Values, floor: Values, peers: Mapping[str, Values]) -> dict[str, Any]:
    """Return one figure for JSON: medians, the ratio of ours to the floor, and reasons for missing values."""
    our_median, floor_median = median(ours), median(floor)
    has_ratio = isinstance(our_median, float) and isinstance(floor_median, float) and floor_median
    return {
        "ours": our_median,
        "floor": floor_median,
        "peers": {name: median(values) for name, values in peers.items()},
        "ratio": our_median / floor_median if has_ratio else None,  # type: ignore[operator]  # both are numbers
        "unit": figure.unit,
        "repeats": len(ours) if isinstance(ours, list) else 0,
    }


def median(values: Values) -> float | str:
    """Return the median, or the reason why there is none."""
    return values if isinstance(values, str) else float(statistics.median(values))


def format_table(figures: tuple[Figure, ...], results: Mapping[str, dict[str, Any]]) -> str:
    """Return a Markdown table with a row for each figure and a column for each contender; notes explain empty cells."""
    peers = list(dict.fromkeys(name for figure in results.values() for name in figure["peers"]))
    rows = [["figure", "promise", "tidemill", "floor", *peers]]
    reasons: dict[str, list[str]] = {}
    for figure in figures:
        values = results.get(figure.name)
        if values is None:
            continue
        cells = {"tidemill": values["ours"], "floor": values["floor"], **values["peers"]}
        for name, value in cells.items():
            if isinstance(value, str):
                reasons.setdefault(f"{name}: {value}", []).append(figure.name)
        cell_texts = [_format_cell(cells.get(name)) for name in rows[0][2:]]
        rows.append([f"{figure.name}, {figure.unit}", figure.promise, *cell_texts])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    notes = [f"- {reason} ({'; '.join(names)})" for reason, names in reasons.items()]
    return "\n".join((*lines, "", *notes)).rstrip()


def _format_cell(value: float | str | None) -> str:
    if not isinstance(value, float):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def describe_machine() -> str:
    """Return the cores, the memory and the platform of the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    platform_text = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform_text}"


def describe_commit() -> str:
    """Return the commit that is measured, with a sign if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=, changed", "--abbrev=10", "--exclude=*"]
    described = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return described.stdout.strip() or "no commit"


def write_between(file: Path, mark: str, text: str) -> None:
    """Replace the text of a file between `<!-- mark -->` and `<!-- /mark -->`."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, opening, rest = file.read_text(encoding="utf-8").partition(begin)
    _, closing, after = rest.partition(end)
    if not (opening and closing):
        raise SystemExit(f"{file} has no {begin} … {end}: add both lines at the position of the table")
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def print_results(figures: tuple[Figure, ...], results: Mapping[str, dict[str, Any]], *, as_json: bool) -> None:
    """Print the machine and its results: a table of the figures, or one JSON object."""
    if as_json:
        print(json.dumps({"machine": describe_machine(), "figures": results}, indent=2))
    else:
        print(f"{describe_machine()}\n\n{format_table(figures, results)}")


def print_figures(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print figures by their names, below the machine, or as one JSON object."""
    if as_json:
        print(json.dumps(figures))
        return
    print(describe_machine())
    for name, value in figures.items():
        print(f"{name}: {value}")
