"""Renders HTML: one Jinja environment for the pages and the report, with automatic escaping."""

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tidemill.evidence.formatting import format_number
from tidemill.web import words

_FOLDER = files("tidemill.web") / "templates"


@cache
def environment() -> Environment:
    """Return the Jinja environment of all templates; an undefined name is an error."""
    jinja = Environment(
        loader=FileSystemLoader(str(_FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"when": words.format_time, "day": words.format_day, "number": format_number}
    jinja.filters |= {"figure": data_block, "json": format_json}
    return jinja


def render_template(template: str, **values: Any) -> str:
    """Render a template with values."""
    return environment().get_template(template).render(values)


@cache
def read_file(name: str) -> str:
    """Return the text of a file in the folder of the templates: `style.css`, `charts.js`."""
    return (_FOLDER / name).read_text()


@cache
def read_plotly() -> str:
    """Return the source of plotly.js, which is part of the package: no page loads anything from another server."""
    return (files("tidemill.web") / "vendor" / "plotly-basic.min.js").read_text(encoding="utf-8")


def data_block(figure: dict[str, Any]) -> Markup:
    """Return a value as JSON that is safe inside `<script type="application/json">`."""
    return Markup(msgspec.json.encode(figure).decode().replace("<", "\\u003c"))


def format_json(value: Any) -> str:
    """Return a value as indented JSON; Jinja escapes it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
