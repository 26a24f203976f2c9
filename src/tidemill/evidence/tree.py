"""Draws a lineage: as a tree in text, and as a picture (SVG)."""

from collections.abc import Iterator
from html import escape

from tidemill.evidence.lineage import Lineage
from tidemill.evidence.node import Node

_ROW, _INDENT, _LETTER, _RUN = 22, 22, 7.2, 18
_ARROWS = {"up": "  ← ", "down": "  → "}
_COLOURS = {"artifact": "#eef4f8", "step": "#f6f1e7", "release": "#e4f3e6", "route": "#e4f3e6"}


def as_text(found: Lineage) -> str:
    """A line for each node; one that was shown above is not drawn out again."""
    return "\n".join(f"{branch}{text}" for branch, text, _, _ in _lines(found))


def as_svg(found: Lineage) -> str:
    """The same tree as boxes, each below what it hangs on."""
    rows = [(text.strip(), kind, depth) for _, text, kind, depth in _lines(found)]
    width = max((depth * _INDENT + len(text) * _LETTER for text, _, depth in rows), default=0) + 40
    parts, last = [], dict[int, float]()
    for place, (text, kind, depth) in enumerate(rows):
        x, y = 10 + depth * _INDENT, 10 + place * (_ROW + 6)
        if depth:
            parts.append(f'<path d="M{x - 12} {last[depth - 1]} V{y + _ROW / 2} H{x}" fill="none" stroke="#8aa4b4"/>')
        last[depth] = y + _ROW
        parts.append(
            f'<rect x="{x}" y="{y}" width="{len(text) * _LETTER + 14:.0f}" height="{_ROW}" rx="5" '
            f'fill="{_COLOURS.get(kind, "#f4f4f4")}" stroke="#1d6a96"/>'
            f'<text x="{x + 7}" y="{y + 15}">{escape(text)}</text>'
        )
    height = len(rows) * (_ROW + 6) + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'font-family="ui-monospace, monospace" font-size="12"><title>{escape(found.subject)}</title>'
        + "".join(parts)
        + "</svg>\n"
    )


def _lines(found: Lineage) -> Iterator[tuple[str, str, str, int]]:
    """What stands before each line, the line, the kind of its node and its depth."""
    seen: set[str] = set()
    waiting = [(found.subject, "", "", 0, "")]
    while waiting:
        identifier, branch, under, depth, run = waiting.pop()
        node = found.nodes.get(identifier)
        if node is None:  # a line that folds the rest
            yield branch, identifier, "", depth
            continue
        shown = [node, *_same_line(found, node)]
        here = next((str(one.facts["run"]) for one in shown if one.kind == "step"), run)
        text = _ARROWS[found.direction].join(one.text for one in shown) + (
            f"  run {here[:_RUN]}" if here != run else ""
        )
        below = found.edges.get(shown[-1].id, [])
        if node.id in seen or shown[-1].id in seen:
            yield (
                branch,
                (text if node.id not in seen else node.text) + ("  (see above)" if below else ""),
                node.kind,
                depth,
            )
            continue
        seen |= {one.id for one in shown}
        yield branch, text + ("  …" if shown[-1].id in found.cut else ""), node.kind, depth
        more = found.folded.get(shown[-1].id)
        children = [*below, *([f"… and {more:,} more"] if more else [])]
        for place, child in reversed(list(enumerate(children))):
            lead, rest = ("└─ ", "   ") if place == len(children) - 1 else ("├─ ", "│  ")
            waiting.append((child, under + lead, under + rest, depth + 1, here))


def _same_line(found: Lineage, node: Node) -> list[Node]:
    """What stands on the line of a node: the step that made an artifact, or the one artifact that a step gave."""
    wanted = {"up": "artifact", "down": "step"}[found.direction]
    below = [found.nodes[one] for one in found.edges.get(node.id, ())]
    if node.kind != wanted or len(below) != 1 or below[0].kind not in ("step", "artifact"):
        return []
    return below
