"""Draws a lineage as a tree, in text or as an SVG image."""

from collections.abc import Iterator

from tidemill import svg
from tidemill.evidence.lineage import Lineage
from tidemill.evidence.node import LineageNode

_ROW_HEIGHT, _INDENT, _LETTER_WIDTH, _RUN_LENGTH = 22, 22, 7.2, 18
_ARROWS = {"up": "  ← ", "down": "  → "}
_COLOURS = {"artifact": "#eef4f8", "step": "#f6f1e7", "release": "#e4f3e6", "route": "#e4f3e6"}


def as_text(lineage: Lineage) -> str:
    """Return a line for each node; the children of a node that occurs again are not repeated."""
    return "\n".join(f"{branch}{text}" for branch, text, _, _ in _draw_lines(lineage))


def as_svg(lineage: Lineage) -> str:
    """Return the tree as boxes, each below its parent."""
    rows = [(text.strip(), kind, depth) for _, text, kind, depth in _draw_lines(lineage)]
    width = max((depth * _INDENT + len(text) * _LETTER_WIDTH for text, _, depth in rows), default=0) + 40
    parts, last = [], dict[int, float]()
    for index, (text, kind, depth) in enumerate(rows):
        x, y = 10 + depth * _INDENT, 10 + index * (_ROW_HEIGHT + 6)
        if depth:
            branch = f"M{x - 12} {last[depth - 1]} V{y + _ROW_HEIGHT / 2} H{x}"
            parts.append(svg.element("path", d=branch, fill="none", stroke="#8aa4b4"))
        last[depth] = y + _ROW_HEIGHT
        fill = _COLOURS.get(kind, "#f4f4f4")
        parts.append(svg.box(x, y, len(text) * _LETTER_WIDTH + 14, _ROW_HEIGHT, rx=5, fill=fill, stroke="#1d6a96"))
        parts.append(svg.label(x + 7, y + 15, text))
    height = len(rows) * (_ROW_HEIGHT + 6) + 20
    font = "ui-monospace, monospace"
    return svg.picture(width, height, *parts, title=lineage.subject, font_family=font, font_size=12) + "\n"


def _draw_lines(lineage: Lineage) -> Iterator[tuple[str, str, str, int]]:
    """Yield for each line its branch, its text, and the kind and depth of its node."""
    seen: set[str] = set()
    pending = [(lineage.subject, "", "", 0, "")]
    while pending:
        identifier, branch, indent, depth, run = pending.pop()
        node = lineage.nodes.get(identifier)
        if node is None:  # the line with the number of hidden nodes
            yield branch, identifier, "", depth
            continue
        on_line = [node, *_find_same_line(lineage, node)]
        run_here = next((str(member.facts["run"]) for member in on_line if member.kind == "step"), run)
        text = _ARROWS[lineage.direction].join(member.text for member in on_line) + (
            f"  run {run_here[:_RUN_LENGTH]}" if run_here != run else ""
        )
        below = lineage.edges.get(on_line[-1].id, [])
        if node.id in seen or on_line[-1].id in seen:
            yield (
                branch,
                (text if node.id not in seen else node.text) + ("  (see above)" if below else ""),
                node.kind,
                depth,
            )
            continue
        seen |= {member.id for member in on_line}
        yield branch, text + ("  …" if on_line[-1].id in lineage.cut else ""), node.kind, depth
        hidden = lineage.folded.get(on_line[-1].id)
        children = [*below, *([f"… and {hidden:,} more"] if hidden else [])]
        for index, child in reversed(list(enumerate(children))):
            first, rest = ("└─ ", "   ") if index == len(children) - 1 else ("├─ ", "│  ")
            pending.append((child, indent + first, indent + rest, depth + 1, run_here))


def _find_same_line(lineage: Lineage, node: LineageNode) -> list[LineageNode]:
    """Return the node to show on the same line: the step of an artifact, or the only artifact of a step."""
    kind = {"up": "artifact", "down": "step"}[lineage.direction]
    below = [lineage.nodes[child] for child in lineage.edges.get(node.id, ())]
    if node.kind != kind or len(below) != 1 or below[0].kind not in ("step", "artifact"):
        return []
    return below
