"""Builds charts as Plotly figures in plain JSON; a page draws them with plotly.js in its light or dark colours.

Every series differs in its dash and its symbol as well as in its colour (Okabe & Ito 2008, for all kinds of sight).
"""

import bisect
import html
import itertools
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct

Figure = dict[str, Any]

_COLOURS = ("#0072B2", "#8A8A8A", "#D55E00", "#009E73", "#CC79A7")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up")
_MARKS = {
    "released": ("#0072B2", "circle"),
    "promoted": ("#009E73", "triangle-up"),
    "rolled back": ("#D55E00", "triangle-down"),
    "stopped": ("#D55E00", "square"),
    "failed": ("#CC79A7", "x"),
}
_OUTCOMES = {
    "pass": ("#009E73", ""),
    "warn": ("#E69F00", "/"),
    "fail": ("#D55E00", "x"),
    "undecided": ("#8A8A8A", "."),
}
_LAYOUT: Figure = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 70, "r": 16, "t": 8, "b": 36},
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    "hoverlabel": {"align": "left"},
}


class ChartSeries(Struct, frozen=True):
    """A named line: its times and values, and the number of rows of each value."""

    name: str
    times: Sequence[datetime]
    values: Sequence[float]
    rows: Sequence[int] = ()


class ChartMark(Struct, frozen=True):
    """An event at a time, in the lane of its `kind`."""

    time: datetime
    kind: str
    text: str


class TrafficShare(Struct, frozen=True):
    """The share of the requests that a release serves in a role; 1 of those of its value for a bound release."""

    release: str
    role: Literal["champion", "challenger", "shadow", "bound"]
    share: float


class TrafficChange(Struct, frozen=True):
    """The releases that serve requests from a time on, and the reason of the change."""

    time: datetime
    shares: Sequence[TrafficShare]
    reason: str


def draw_over_time(series: Sequence[ChartSeries], marks: Sequence[ChartMark], value: str) -> Figure:
    """Draw a line for each series over time, and below it a lane for each kind of mark, in order of appearance."""
    lanes = list(dict.fromkeys(mark.kind for mark in marks))
    lines = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": _plain(line.name),
            "x": _times(line.times),
            "y": list(line.values),
            "customdata": list(line.rows) or [None] * len(line.values),
            "line": {"color": _turn(_COLOURS, index), "dash": _turn(_DASHES, index), "width": 3 if index == 0 else 2},
            "marker": {"symbol": _turn(_SYMBOLS, index), "size": 7},
            "hovertemplate": "%{y:.4f} on %{customdata:,} rows",
        }
        for index, line in enumerate(series)
    ]
    height = 0.07 * len(lanes)
    layout: Figure = {
        "height": 360 + 26 * len(lanes),
        "hovermode": "x unified",
        "xaxis": {"type": "date", "anchor": "y2" if lanes else "y"},
        "yaxis": {"title": {"text": _plain(value)}, "domain": [height + 0.06 if lanes else 0, 1], "zeroline": False},
    }
    if lanes:
        layout["yaxis2"] = _lanes(lanes) | {"domain": [0, height]}
    return {"data": lines + [_lane(kind, index, marks) for index, kind in enumerate(lanes)], "layout": _LAYOUT | layout}


def _lanes(names: Sequence[str]) -> Figure:
    """Return an axis with a row for each name, the first on top, and a margin on both ends."""
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [_plain(name) for name in names],
        "range": [len(names) - 0.4, -0.6],
        "fixedrange": True,
    }


def _lane(kind: str, index: int, marks: Sequence[ChartMark]) -> Figure:
    inside = [mark for mark in marks if mark.kind == kind]
    colour, symbol = _MARKS.get(kind, (_turn(_COLOURS, index), _turn(_SYMBOLS, index)))
    return {
        "type": "scatter",
        "mode": "markers",
        "yaxis": "y2",
        "showlegend": False,
        "name": _plain(kind),
        "x": _times([mark.time for mark in inside]),
        "y": [_plain(kind)] * len(inside),
        "text": [_wrapped(mark.text) for mark in inside],
        "marker": {"symbol": symbol, "size": 10, "color": colour},
        "hovertemplate": "%{text}",
    }


class ChartPoint(Struct, frozen=True):
    """A point of a scatter: its group, and its text."""

    group: str
    x: float
    y: float
    text: str


def draw_scatter(points: Sequence[ChartPoint], line: Sequence[ChartPoint], x: str, y: str) -> Figure:
    """Draw points by group, in order of appearance, and a stepped line through the points of a front."""
    groups = list(dict.fromkeys(point.group for point in points))
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": _plain(group),
            "x": [point.x for point in points if point.group == group],
            "y": [point.y for point in points if point.group == group],
            "text": [_wrapped(point.text) for point in points if point.group == group],
            "marker": {"color": _turn(_COLOURS, index), "symbol": _turn(_SYMBOLS, index), "size": 10},
            "hovertemplate": "%{text}",
        }
        for index, group in enumerate(groups)
    ]
    if line:
        front: Figure = {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": [point.x for point in line],
            "y": [point.y for point in line],
            "line": {"shape": "hv", "color": "#8A8A8A", "dash": "dot", "width": 2},
            "hoverinfo": "skip",
        }
        traces.append(front)
    layout: Figure = {
        "height": 380,
        "xaxis": {"title": {"text": _plain(x)}, "zeroline": False},
        "yaxis": {"title": {"text": _plain(y)}, "zeroline": False},
    }
    return {"data": traces, "layout": _LAYOUT | layout}


def draw_difference(series: Sequence[ChartSeries], reference: str, value: str) -> Figure:
    """Draw the difference between each series and the series `reference`, as bars above or below 0."""
    means = {
        time: mean
        for line in series
        if line.name == reference
        for time, mean in zip(line.times, line.values, strict=True)
    }
    bars: list[Figure] = []
    for index, line in enumerate(series):
        if line.name == reference:
            continue
        differences = [
            (time, mean - means[time]) for time, mean in zip(line.times, line.values, strict=True) if time in means
        ]
        bars.append(
            {
                "type": "bar",
                "name": _plain(line.name),
                "x": _times([time for time, _ in differences]),
                "y": [difference for _, difference in differences],
                "marker": {"color": _turn(_COLOURS, index), "pattern": _hatched("/" if bars else "")},
                "hovertemplate": "%{y:+.4f}",
            }
        )
    layout: Figure = {
        "height": 260,
        "barmode": "group",
        "hovermode": "x unified",
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": _plain(value)}, "zeroline": True, "zerolinewidth": 2, "tickformat": "+"},
    }
    return {"data": bars, "layout": _LAYOUT | layout}


def draw_traffic_shares(changes: Sequence[TrafficChange], end: datetime) -> Figure:
    """Draw the releases that served: a row for each release, a bar for each period, fainter for smaller shares."""
    names = list(dict.fromkeys(share.release for change in changes for share in change.shares))
    data = []
    for role, shape, colour in (("champion", "", 0), ("bound", "", 4), ("challenger", "/", 2), ("shadow", ".", 1)):
        periods = [period for period in _find_periods(changes, end) if period[2].role == role]
        if not periods:
            continue
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": role,
                "y": [_plain(share.release) for _, _, share, _ in periods],
                "base": _times([begin for begin, _, _, _ in periods]),
                "x": [(until - begin).total_seconds() * 1000 for begin, until, _, _ in periods],
                "text": [_wrapped(f"{share.share:.0%} as {role}: {why}") for _, _, share, why in periods],
                "textposition": "none",
                "marker": {
                    "color": _turn(_COLOURS, colour),
                    "opacity": [0.4 + 0.6 * share.share for _, _, share, _ in periods],
                    "pattern": {"shape": shape},
                },
                "hovertemplate": "%{y} from %{base|%Y-%m-%d %H:%M}<br>%{text}<extra></extra>",
            }
        )
    layout: Figure = {
        "height": 110 + 24 * len(names),
        "barmode": "overlay",
        "bargap": 0.35,
        "showlegend": True,
        "xaxis": {"type": "date"},
        "yaxis": _lanes(names),
        "margin": _LAYOUT["margin"] | {"l": 110},
    }
    return {"data": data, "layout": _LAYOUT | layout}


def _find_periods(
    changes: Sequence[TrafficChange], end: datetime
) -> list[tuple[datetime, datetime, TrafficShare, str]]:
    """Return the begin, end, share and reason of every period in which a release's share was constant."""
    periods: list[tuple[datetime, datetime, TrafficShare, str]] = []
    ends = [*(change.time for change in changes[1:]), end][: len(changes)]
    for change, until in zip(changes, ends, strict=True):
        for share in change.shares:
            continued = [index for index, period in enumerate(periods) if period[1:3] == (change.time, share)]
            if continued:
                begin, _, _, reason = periods[continued[0]]
                periods[continued[0]] = (begin, until, share, reason)
            else:
                periods.append((change.time, until, share, change.reason))
    return periods


def draw_outcome_counts(table: dict[str, dict[str, int]]) -> Figure:
    """Draw how often each outcome occurred, a row for each check."""
    checks = sorted(table)
    data = []
    for outcome, (colour, shape) in _OUTCOMES.items():
        numbers = [table[check].get(outcome, 0) for check in checks]
        if not any(numbers):
            continue
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": outcome,
                "y": [_plain(check) for check in checks],
                "x": numbers,
                "text": [str(number) if number else "" for number in numbers],
                "textposition": "inside",
                "insidetextanchor": "middle",
                "insidetextfont": {"color": "#FFFFFF" if outcome != "warn" else "#1B1B1B"},
                "marker": {"color": colour, "pattern": _hatched(shape)},
                "hovertemplate": "%{x:,} times",
            }
        )
    layout: Figure = {
        "height": 100 + 30 * len(checks),
        "barmode": "stack",
        "bargap": 0.3,
        "showlegend": True,
        "xaxis": {"title": {"text": "verdicts"}},
        "yaxis": _lanes(checks),
        "margin": _LAYOUT["margin"] | {"l": 110, "b": 48},
    }
    return {"data": data, "layout": _LAYOUT | layout}


def draw_distribution(low: float, high: float, edges: Sequence[float], counts: Sequence[int], *, times: bool) -> Figure:
    """Draw a histogram: a bar for each bin, as high as its density; with `times`, values are microseconds."""
    bounds = [low, *(edge for edge in edges if low < edge < high), high]
    inside = [0] * (len(bounds) - 1)
    for count, edge in zip(counts, [*edges, high], strict=True):
        inside[max(bisect.bisect_left(bounds, min(edge, high)) - 1, 0)] += count
    widths = [max(end - begin, 1e-9) for begin, end in itertools.pairwise(bounds)]
    centres = [(begin + end) / 2 for begin, end in itertools.pairwise(bounds)]
    shown: Sequence[Any] = (
        _times([datetime.fromtimestamp(centre / 1e6, UTC) for centre in centres]) if times else centres
    )
    bars = {
        "type": "bar",
        "x": shown,
        "width": [width / 1e3 if times else width for width in widths],
        "y": [count / width for count, width in zip(inside, widths, strict=True)],
        "customdata": inside,
        "marker": {"color": _COLOURS[0], "line": {"width": 0}},
        "hovertemplate": "%{x}: %{customdata:,} rows<extra></extra>",
    }
    axis = {"type": "date"} if times else {}
    layout: Figure = {
        "height": 190,
        "bargap": 0,
        "xaxis": axis,
        "yaxis": {"showticklabels": False, "rangemode": "tozero"},
    }
    return {"data": [bars], "layout": _LAYOUT | layout | {"margin": _LAYOUT["margin"] | {"l": 24}}}


def draw_frequencies(values: dict[str, int], rest: int) -> Figure:
    """Draw how often each value occurs, the most frequent first; `rest` is the number of all other rows."""
    names = [*values, *(["(all others)"] if rest else [])]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [_plain(name) for name in names],
        "x": [*values.values(), *([rest] if rest else [])],
        "marker": {"color": [_COLOURS[0]] * len(values) + [_COLOURS[1]]},
        "hovertemplate": "%{y}: %{x:,} rows<extra></extra>",
    }
    layout: Figure = {
        "height": 70 + 20 * len(names),
        "bargap": 0.25,
        "yaxis": _lanes(names) | {"tickvals": [_plain(n) for n in names], "ticktext": [_clipped(n) for n in names]},
        "margin": _LAYOUT["margin"] | {"l": 130},
    }
    return {"data": [bars], "layout": _LAYOUT | layout}


def _clipped(text: str, length: int = 18) -> str:
    return _plain(text if len(text) <= length else f"{text[: length - 1]}…")


def _hatched(shape: str) -> Figure:
    return {"shape": shape, "fillmode": "overlay", "fgcolor": "#FFFFFF", "fgopacity": 0.45, "solidity": 0.15, "size": 7}


def _times(times: Sequence[datetime]) -> list[str]:
    """Format times in UTC for Plotly, which ignores time zones."""
    return [time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") for time in times]


def _turn(choices: tuple[str, ...], index: int) -> str:
    return choices[index % len(choices)]


def _plain(text: str) -> str:
    """Escape text for Plotly, which interprets some HTML tags."""
    return html.escape(text, quote=False)


def _wrapped(text: str) -> str:
    return "<br>".join(_plain(line) for line in textwrap.wrap(text, 70))
