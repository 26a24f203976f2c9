"""Draws the graph of a pipeline as text and as SVG."""

from tidemill import svg
from tidemill.core.pipeline import Graph

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 190, 34, 26, 46


def as_text(graph: Graph) -> str:
    """Return one line for each step, with the steps that it depends on."""
    widest = max((len(name) for name in graph.nodes), default=0)
    lines = [f"{graph.pipeline}: {len(graph.nodes)} steps"]
    for node in graph.nodes.values():
        about = (node.step.__doc__ or "").strip().splitlines()
        repeated = "  for each member" if node.mapped_parameter else ""
        needs = f"  ← {', '.join(node.needs)}{repeated}" if node.needs else ""
        lines.append(f"  {node.name:{widest}}{needs}")
        if about:
            lines.append(f"  {'':{widest}}  {about[0]}")
    return "\n".join(lines)


def as_svg(graph: Graph) -> str:
    """Return the steps in layers: each step is below the steps that it depends on."""
    depth: dict[str, int] = {}
    for node in graph.nodes.values():
        depth[node.name] = 1 + max((depth[need] for need in node.needs), default=-1)
    layers: dict[int, list[str]] = {}
    for name, level in depth.items():
        layers.setdefault(level, []).append(name)
    widest = max((len(layer) for layer in layers.values()), default=1)
    width = widest * (_WIDTH + _GAP_X) + _GAP_X
    height = len(layers) * (_HEIGHT + _GAP_Y) + _GAP_Y
    position = {
        name: (
            (width - len(layer) * (_WIDTH + _GAP_X) + _GAP_X) / 2 + column * (_WIDTH + _GAP_X),
            _GAP_Y / 2 + level * (_HEIGHT + _GAP_Y),
        )
        for level, layer in layers.items()
        for column, name in enumerate(layer)
    }
    arrows = [_arrow(position[need], position[node.name]) for node in graph.nodes.values() for need in node.needs]
    boxes = [_box(name, *position[name]) for name in graph.nodes]
    parts = [*arrows, *boxes]
    font = "system-ui, sans-serif"
    return svg.picture(width, height, *parts, title=graph.pipeline, font_family=font, font_size=13)


def _box(name: str, x: float, y: float) -> str:
    return svg.box(x, y, _WIDTH, _HEIGHT, rx=6, fill="#eef4f8", stroke="#1d6a96") + svg.label(
        x + _WIDTH / 2, y + _HEIGHT / 2 + 4, name, text_anchor="middle"
    )


def _arrow(start: svg.Point, end: svg.Point) -> str:
    x1, y1 = start[0] + _WIDTH / 2, start[1] + _HEIGHT
    x2, y2 = end[0] + _WIDTH / 2, end[1]
    middle = (y1 + y2) / 2
    curve = f"M{x1} {y1} C{x1} {middle} {x2} {middle} {x2} {y2}"
    return svg.element("path", d=curve, fill="none", stroke="#8aa4b4")
