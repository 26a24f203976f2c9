"""Writes SVG elements: attributes and text are escaped, numbers are rounded to a tenth."""

from collections.abc import Iterable
from html import escape

Point = tuple[float, float]


def element(name: str, /, *children: str, **attributes: object) -> str:
    """Return an element around its children, which are SVG or escaped text.

    In the names of attributes, `_` stands for `-`, and a `_` at the end is dropped. Empty attributes are not written.

    >>> element("text", "day", x=1.25, text_anchor="end", class_="name")
    '<text x="1.2" text-anchor="end" class="name">day</text>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_format(value))}"'
        for key, value in attributes.items()
        if value != ""
    )
    content = "".join(children)
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def picture(width: float, height: float, *children: str, title: str = "", **attributes: object) -> str:
    """Return a whole image, `width` by `height` pixels; browsers show the title as its name."""
    name = [element("title", escape(title))] if title else []
    return element(
        "svg",
        *name,
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_format(width)} {_format(height)}",
        width=width,
        height=height,
        **attributes,
    )


def box(x: float, y: float, width: float, height: float, **attributes: object) -> str:
    """Return a rectangle by its upper left corner and its size."""
    return element("rect", x=x, y=y, width=width, height=height, **attributes)


def line(points: Iterable[Point], **attributes: object) -> str:
    """Return a line through points."""
    joined = " ".join(f"{_format(x)},{_format(y)}" for x, y in points)
    return element("polyline", points=joined, fill="none", **attributes)


def dots(points: Iterable[Point], radius: float, **attributes: object) -> str:
    """Return a circle at each point."""
    return "".join(element("circle", cx=x, cy=y, r=radius, **attributes) for x, y in points)


def label(x: float, y: float, text: str, **attributes: object) -> str:
    """Return a line of text whose baseline starts at a point."""
    return element("text", escape(text), x=x, y=y, **attributes)


def _format(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
