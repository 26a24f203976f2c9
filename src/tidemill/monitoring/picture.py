"""A picture for an alert: one value over time with its limit, as a small SVG that needs nothing to be shown."""

from collections.abc import Sequence
from datetime import datetime
from xml.sax.saxutils import escape

from tidemill.core.check import Verdict

_WIDTH, _HEIGHT, _EDGE = 480, 180, 28


def picture(title: str, verdicts: Sequence[Verdict]) -> str:
    """The values that verdicts of one check measured, oldest first; empty where there are less than two."""
    points = [(one.time, value) for one in verdicts if one.time and (value := _measured(one)) is not None]
    if len(points) < 2:
        return ""
    limit = _limit(verdicts[-1])
    return _drawn(title, [time for time, _ in points], [value for _, value in points], limit)


def _measured(verdict: Verdict) -> float | None:
    for name in ("value", "share", "days", "challenger_loss"):
        value = verdict.evidence.get(name)
        if isinstance(value, int | float):
            return float(value)
    return None


def _limit(verdict: Verdict) -> float | None:
    limit, reference = verdict.evidence.get("limit"), verdict.evidence.get("reference")
    if not isinstance(limit, int | float):
        return None
    return float(limit) + (float(reference) if isinstance(reference, int | float) else 0.0)


def _drawn(title: str, times: Sequence[datetime], values: Sequence[float], limit: float | None) -> str:
    known = [*values, *([limit] if limit is not None else [])]
    low, high = min(known), max(known)
    first, last = times[0], times[-1]
    span = (last - first).total_seconds() or 1.0

    def x(time: datetime) -> float:
        return _EDGE + (time - first).total_seconds() / span * (_WIDTH - 2 * _EDGE)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return _HEIGHT - _EDGE - share * (_HEIGHT - 2 * _EDGE)

    line = " ".join(f"{x(time):.1f},{y(value):.1f}" for time, value in zip(times, values, strict=True))
    dots = "".join(
        f'<circle cx="{x(time):.1f}" cy="{y(value):.1f}" r="2.5"/>' for time, value in zip(times, values, strict=True)
    )
    bound = (
        ""
        if limit is None
        else (
            f'<path d="M{_EDGE} {y(limit):.1f}H{_WIDTH - _EDGE}" stroke="#D55E00" stroke-dasharray="6 4"/>'
            f'<text x="{_WIDTH - _EDGE}" y="{y(limit) - 4:.1f}" text-anchor="end" fill="#D55E00">'
            f"limit {limit:.4g}</text>"
        )
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_EDGE}" y="16" font-size="13">{escape(title)}</text>{bound}'
        f'<polyline points="{line}" fill="none" stroke="#0072B2" stroke-width="2"/><g fill="#0072B2">{dots}</g>'
        f'<text x="{_EDGE}" y="{_HEIGHT - 8}">{first:%Y-%m-%d %H:%M}</text>'
        f'<text x="{_WIDTH - _EDGE}" y="{_HEIGHT - 8}" text-anchor="end">{last:%Y-%m-%d %H:%M}: {values[-1]:.4g}</text>'
        "</svg>"
    )
