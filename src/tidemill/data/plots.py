"""Plots of predictions as one small page of SVG: calibration, ROC, precision and recall, confusion, residuals."""

import html
from collections.abc import Sequence

import numpy as np

from tidemill import svg
from tidemill.data.arrays import Floats
from tidemill.data.metrics import Truth, precision_curve, roc_curve

_SIDE = 260
_EDGE = 44
_MAX_POINTS = 400
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:16px;color:#222;background:#fff}"
    "figure{display:inline-block;margin:8px}figcaption{font-weight:600;margin-bottom:4px}"
    "text{font-size:11px;fill:currentColor}.axis{stroke:#888;fill:none}.line{stroke:#0072B2;stroke-width:2;fill:none}"
    ".even{stroke:#8A8A8A;stroke-dasharray:4 3;fill:none}.dot{fill:#0072B2;fill-opacity:.45}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:3px 8px;text-align:right}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}}"
)


def render_plots(truth: Truth, scores: Floats, title: str) -> str:
    """Return the plots of a task as HTML without external files; `scores` as in `measure`.

    The curves of three and more classes are those of each class against the rest, all together (micro-averaged).
    Predictions that are not finite are counted, not drawn.
    """
    drawable = np.isfinite(scores if scores.ndim == 1 else scores.sum(axis=1))
    lost = int((~drawable).sum())
    truth, scores = Truth(truth.task, truth.values[drawable], truth.classes), scores[drawable]
    if truth.task == "regression":
        drawn = [_residuals(truth.values.astype(float), scores)]
    else:
        is_class = np.eye(len(truth.classes), dtype=bool)[truth.values.astype(int)]
        if len(truth.classes) == 2:
            drawn = _curves(is_class[:, 1], scores[:, 1], f" of {truth.classes[1]!r}")
        else:
            drawn = _curves(is_class.ravel(), scores.ravel(), ", each class against the rest")
        drawn.append(_confusion(truth, scores.argmax(axis=1)))
    body = "".join(drawn)
    name, missing = html.escape(title), f"; {lost:,} more have a prediction that is not finite" if lost else ""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style>"
        f"<h1>{name}</h1><p>{len(truth.values):,} rows{missing}</p>{body}</html>"
    )


def _curves(positive: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]", scores: Floats, about: str = "") -> list[str]:
    predicted, observed = calibration_curve(positive, scores)
    drawn = [_figure(f"Calibration{about}", "predicted", "observed", predicted, observed, even=True, dots=True)]
    if 0 < positive.sum() < len(positive):
        rates = roc_curve(positive, scores)
        drawn.append(_figure(f"ROC{about}", "false positive rate", "true positive rate", *rates, even=True))
        recall = precision_curve(positive, scores)
        drawn.append(_figure(f"Precision and recall{about}", "recall", "precision", *recall))
    return drawn


def calibration_curve(
    positive: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]", scores: Floats, bins: int = 10
) -> tuple[Floats, Floats]:
    """Return the mean prediction and the share of positives in up to `bins` groups of equal size, by prediction."""
    groups = np.array_split(np.argsort(scores, kind="stable"), min(bins, max(len(scores), 1)))
    return (
        np.array([scores[rows].mean() for rows in groups if len(rows)]),
        np.array([positive[rows].mean() for rows in groups if len(rows)]),
    )


def _residuals(values: Floats, scores: Floats) -> str:
    kept = np.linspace(0, len(values) - 1, min(len(values), _MAX_POINTS)).astype(int)
    return _figure("Residuals", "predicted", "observed − predicted", scores[kept], (values - scores)[kept], points=True)


def _confusion(truth: Truth, predicted: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> str:
    size = len(truth.classes)
    table = np.zeros((size, size), dtype=int)
    np.add.at(table, (truth.values.astype(int), predicted), 1)
    names = [html.escape(name) for name in truth.classes]
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{count:,}</td>' for count in counts)}</tr>"
        for name, counts in zip(names, table.tolist(), strict=True)
    )
    return (
        f"<figure><figcaption>Confusion (rows: true class, columns: predicted class)</figcaption>"
        f"<table><tr><th></th>{head}</tr>{rows}</table></figure>"
    )


def _figure(
    title: str,
    across: str,
    up: str,
    x: Floats,
    y: Floats,
    *,
    even: bool = False,
    dots: bool = False,
    points: bool = False,
) -> str:
    """Draw one plot: a line, a line with `dots`, or only `points`; `even` adds the diagonal of the unit square."""
    wide, high = (_range(values, whole=not points) for values in (x, y))
    kept = np.linspace(0, max(len(x) - 1, 0), min(len(x), _MAX_POINTS)).astype(int)
    drawn = [(_scale(x[index], wide), _SIDE - _scale(y[index], high)) for index in kept]
    inner = [svg.box(0, 0, _SIDE, _SIDE, class_="axis")]
    if even:
        inner.append(svg.line([(0, _SIDE), (_SIDE, 0)], class_="even"))
    if drawn and not points:
        inner.append(svg.line(drawn, class_="line"))
    if dots or points:
        inner.append(svg.dots(drawn, 3, class_="dot"))
    inner += _labels(across, up, wide, high)
    whole = _SIDE + _EDGE + 12
    group = svg.element("g", *inner, transform=f"translate({_EDGE} 8)")
    image = svg.picture(whole, whole, group, role="img", aria_label=title)
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{image}</figure>"


def _labels(across: str, up: str, wide: tuple[float, float], high: tuple[float, float]) -> Sequence[str]:
    low = _SIDE + 14
    return (
        svg.label(0, low, f"{wide[0]:.3g}"),
        svg.label(_SIDE, low, f"{wide[1]:.3g}", text_anchor="end"),
        svg.label(_SIDE / 2, low + 14, across, text_anchor="middle"),
        svg.label(-4, _SIDE, f"{high[0]:.3g}", text_anchor="end"),
        svg.label(-4, 10, f"{high[1]:.3g}", text_anchor="end"),
        svg.label(0, 0, up, transform=f"translate(-30 {_SIDE // 2}) rotate(-90)", text_anchor="middle"),
    )


def _range(values: Floats, *, whole: bool) -> tuple[float, float]:
    if whole or not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _scale(value: float, within: tuple[float, float]) -> float:
    return float((value - within[0]) / (within[1] - within[0]) * _SIDE)
