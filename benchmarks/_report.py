"""Turns measured values into figures, and figures into a table or one JSON object."""

import os
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

Values = list[float] | str
"""What was measured, or why nothing was."""


class Figure(NamedTuple):
    """What is measured: its name, its unit, and what we promise."""

    name: str
    unit: str
    promise: str = ""


def assembled(figure: Figure, ours: Values, floor: Values, peers: Mapping[str, Values]) -> dict[str, Any]:
    """One figure as it goes into JSON: medians, the ratio of ours to the floor, and reasons for what is missing."""
    mine, least = median(ours), median(floor)
    known = isinstance(mine, float) and isinstance(least, float) and least
    return {
        "ours": mine,
        "floor": least,
        "peers": {name: median(values) for name, values in peers.items()},
        "ratio": mine / least if known else None,  # type: ignore[operator]  # known: both are numbers
        "unit": figure.unit,
        "repeats": len(ours) if isinstance(ours, list) else 0,
    }


def median(values: Values) -> float | str:
    return values if isinstance(values, str) else float(statistics.median(values))


def table(figures: tuple[Figure, ...], found: Mapping[str, dict[str, Any]]) -> str:
    """A Markdown table, a row for each figure and a column for each contender; beneath it, why a cell is empty."""
    peers = list(dict.fromkeys(name for figure in found.values() for name in figure["peers"]))
    rows = [["figure", "promise", "tidemill", "floor", *peers]]
    reasons: dict[str, list[str]] = {}
    for figure in figures:
        values = found.get(figure.name)
        if values is None:
            continue
        cells = {"tidemill": values["ours"], "floor": values["floor"], **values["peers"]}
        for name, value in cells.items():
            if isinstance(value, str):
                reasons.setdefault(f"{name}: {value}", []).append(figure.name)
        shown = [_cell(cells.get(name)) for name in rows[0][2:]]
        rows.append([f"{figure.name}, {figure.unit}", figure.promise, *shown])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    notes = [f"- {reason} ({'; '.join(names)})" for reason, names in reasons.items()]
    return "\n".join((*lines, "", *notes)).rstrip()


def _cell(value: float | str | None) -> str:
    if not isinstance(value, float):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> str:
    """The machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {where}"


def write_between(file: Path, mark: str, text: str) -> None:
    """Replace what a file has between `<!-- mark -->` and `<!-- /mark -->`."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{file} has no {begin} … {end}: put the two where the table belongs")
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
