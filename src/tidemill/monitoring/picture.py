"""The picture of an alert: one value over time with its limit, as a self-contained SVG."""

from collections.abc import Sequence
from datetime import datetime

from tidemill import svg
from tidemill.core.check import Verdict

_WIDTH, _HEIGHT, _EDGE = 480, 180, 28


def draw_picture(title: str, verdicts: Sequence[Verdict]) -> str:
    """Draw the values of verdicts of one check, oldest first; return an empty text for fewer than two values."""
    points = [
        (verdict.time, value) for verdict in verdicts if verdict.time and (value := _find_value(verdict)) is not None
    ]
    if len(points) < 2:
        return ""
    limit = _find_limit(verdicts[-1])
    return _draw(title, [time for time, _ in points], [value for _, value in points], limit)


def _find_value(verdict: Verdict) -> float | None:
    for name in ("value", "share", "days", "challenger_loss"):
        value = verdict.evidence.get(name)
        if isinstance(value, int | float):
            return float(value)
    return None


def _find_limit(verdict: Verdict) -> float | None:
    limit, reference = verdict.evidence.get("limit"), verdict.evidence.get("reference")
    if not isinstance(limit, int | float):
        return None
    return float(limit) + (float(reference) if isinstance(reference, int | float) else 0.0)


def _draw(title: str, times: Sequence[datetime], values: Sequence[float], limit: float | None) -> str:
    all_values = [*values, *([limit] if limit is not None else [])]
    low, high = min(all_values), max(all_values)
    first, last = times[0], times[-1]
    span = (last - first).total_seconds() or 1.0

    def x(time: datetime) -> float:
        return _EDGE + (time - first).total_seconds() / span * (_WIDTH - 2 * _EDGE)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return _HEIGHT - _EDGE - share * (_HEIGHT - 2 * _EDGE)

    points = [(x(time), y(value)) for time, value in zip(times, values, strict=True)]
    right = _WIDTH - _EDGE
    parts = [svg.box(0, 0, _WIDTH, _HEIGHT, fill="#fff"), svg.label(_EDGE, 16, title, font_size=13)]
    if limit is not None:
        parts += [
            svg.line([(_EDGE, y(limit)), (right, y(limit))], stroke="#D55E00", stroke_dasharray="6 4"),
            svg.label(right, y(limit) - 4, f"limit {limit:.4g}", text_anchor="end", fill="#D55E00"),
        ]
    parts += [
        svg.line(points, stroke="#0072B2", stroke_width=2),
        svg.dots(points, 2.5, fill="#0072B2"),
        svg.label(_EDGE, _HEIGHT - 8, f"{first:%Y-%m-%d %H:%M}"),
        svg.label(right, _HEIGHT - 8, f"{last:%Y-%m-%d %H:%M}: {values[-1]:.4g}", text_anchor="end"),
    ]
    return svg.picture(_WIDTH, _HEIGHT, *parts, font_family="sans-serif", font_size=11)
