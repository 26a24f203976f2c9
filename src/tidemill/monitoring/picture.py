"""The picture of an alert as a self-contained SVG: one value over time with its limit, or the columns that moved."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from tidemill import svg
from tidemill.core.check import Verdict

_WIDTH, _HEIGHT, _EDGE = 480, 180, 28
_SHOWN = 4
_PANEL = 130


class _Effects(Struct, frozen=True):
    cells: list[str] = []
    shares: list[float] = []
    reference_shares: list[float] = []
    missing: float | None = None
    reference_missing: float = 0.0


class _Column(Struct, frozen=True):
    column: str
    effect: float
    moved: bool
    kind: str = ""
    rows: int = 0
    effects: _Effects = _Effects()

    @property
    def pictured(self) -> _Effects:
        """What a picture shows: the distribution, or the share of missing values if that moved."""
        effects = self.effects
        if self.kind != "missing" or effects.missing is None:
            return effects
        shares, before = ([1 - missing, missing] for missing in (effects.missing, effects.reference_missing))
        return _Effects(cells=["value", "missing"], shares=shares, reference_shares=before)


class _ComparedWith(Struct, frozen=True):
    reference: str = "release"


class _DriftEvidence(Struct, frozen=True):
    columns: list[_Column] = []
    compared_with: _ComparedWith = _ComparedWith()


def draw_picture(title: str, verdicts: Sequence[Verdict]) -> str:
    """Draw the values of verdicts of one check, oldest first; return an empty text for fewer than two values.

    A verdict on drift is drawn as the distributions of the columns that moved.
    """
    if verdicts and verdicts[-1].check == "drift":
        evidence = verdicts[-1].read(_DriftEvidence)
        pictured = [column for column in evidence.columns if column.moved and column.pictured.cells][:_SHOWN]
        if pictured:
            before = "training" if evidence.compared_with.reference == "release" else "earlier"
            return _draw_columns(title, pictured, before)
    points = [
        (verdict.time, value) for verdict in verdicts if verdict.time and (value := _find_value(verdict)) is not None
    ]
    if len(points) < 2:
        return ""
    limit = _find_limit(verdicts[-1])
    return _draw(title, [time for time, _ in points], [value for _, value in points], limit)


def _draw_columns(title: str, columns: Sequence[_Column], before: str) -> str:
    """Draw the share of the rows in each cell of each column: of the reference's rows beside those of the window."""
    height = 24 + _PANEL * len(columns)
    parts = [
        svg.box(0, 0, _WIDTH, height, fill="#fff"),
        svg.label(_EDGE, 16, title, font_size=13),
        svg.box(_WIDTH - 190, 8, 10, 10, fill="#999"),
        svg.label(_WIDTH - 176, 17, before),
        svg.box(_WIDTH - 110, 8, 10, 10, fill="#D55E00"),
        svg.label(_WIDTH - 96, 17, "now"),
    ]
    for index, column in enumerate(columns):
        parts += _draw_column(column, 24 + index * _PANEL)
    return svg.picture(_WIDTH, height, *parts, font_family="sans-serif", font_size=11)


def _draw_column(column: _Column, top: float) -> list[str]:
    effects = column.pictured
    largest = max(*effects.shares, *effects.reference_shares, 1e-9)
    width, bottom = (_WIDTH - 2 * _EDGE) / len(effects.cells), top + _PANEL - 24
    parts = [svg.label(_EDGE, top + 14, f"{column.column}: {column.effect:.2f} in {column.rows} rows")]
    for index, cell in enumerate(effects.cells):
        left = _EDGE + index * width
        for shift, share, colour in (
            (0.1, effects.reference_shares[index], "#999"),
            (0.5, effects.shares[index], "#D55E00"),
        ):
            bar = share / largest * (bottom - top - 24)
            parts.append(svg.box(left + shift * width, bottom - bar, 0.38 * width, bar, fill=colour))
        shown = cell if len(cell) <= 9 else f"{cell[:8]}…"
        parts.append(svg.label(left + width / 2, bottom + 12, shown, text_anchor="middle", font_size=9))
    return parts


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
