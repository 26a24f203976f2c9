"""Draws the floors of the import contract, for light and dark pages."""

import tomllib
from html import escape
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_WIDTH, _LEFT, _RIGHT, _TOP = 940, 44, 920, 16
_HEIGHT, _GAP = 44, 8
_STYLE = """
    .room { fill: #e8eef4; stroke: #52708c; }
    .upper { fill: #d9e5ee; }
    .name { fill: #14222e; font-size: 14px; }
    .floor { fill: #5d7184; font-size: 13px; }
    @media (prefers-color-scheme: dark) {
      .room { fill: #22303d; stroke: #7f9db8; }
      .upper { fill: #2b3d4d; }
      .name { fill: #eef4f9; }
      .floor { fill: #a9bccd; }
    }
"""


def read_floors() -> list[list[str]]:
    """Return the packages of each floor, from the top, as the `layers` contract in pyproject.toml lists them."""
    contracts = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[package.strip() for package in layer.split("|")] for layer in layers]


def draw_floors() -> str:
    """Return the picture as SVG."""
    rows = read_floors()
    height = _TOP * 2 + len(rows) * (_HEIGHT + _GAP) - _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"',
        '     role="img" aria-labelledby="title about">',
        '  <title id="title">The floors of the house</title>',
        '  <desc id="about">The packages of src/tidemill by floor. A package imports only from floors below it.</desc>',
        f"  <style>{_STYLE}  </style>",
    ]
    for index, packages in enumerate(rows):
        top = _TOP + index * (_HEIGHT + _GAP)
        middle = top + _HEIGHT / 2 + 5
        parts.append(f'  <text class="floor" x="30" y="{middle}" text-anchor="end">{len(rows) - index}</text>')
        width = (_RIGHT - _LEFT - _GAP * (len(packages) - 1)) / len(packages)
        for column, package in enumerate(packages):
            left = _LEFT + column * (width + _GAP)
            shade = "room upper" if index % 2 else "room"
            parts.append(
                f'  <rect class="{shade}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_HEIGHT}" rx="5"/>'
            )
            centre = f'x="{left + width / 2:.1f}" y="{middle}" text-anchor="middle"'
            parts.append(f'  <text class="name" {centre}>{escape(package)}</text>')
    return "\n".join([*parts, "</svg>"])
