"""Turns values into HTML: one Jinja environment for the pages and the report, in which everything is escaped."""

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
    """The environment of all templates; a name that it does not know is an error."""
    made = Environment(
        loader=FileSystemLoader(str(_FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"when": words.when, "day": words.day, "number": format_number}
    made.filters |= {"figure": data_block, "json": indented}
    return made


def html(template: str, **values: Any) -> str:
    """A template with its values."""
    return environment().get_template(template).render(values)


@cache
def part(name: str) -> str:
    """The text of a file beside the templates: `style.css`, `charts.js`."""
    return (_FOLDER / name).read_text()


@cache
def plotly() -> str:
    """The source of plotly.js, which comes with the package: no page asks another server for anything."""
    return (files("tidemill.web") / "vendor" / "plotly-basic.min.js").read_text(encoding="utf-8")


def data_block(figure: dict[str, Any]) -> Markup:
    """A value as JSON that may stand inside a `<script type="application/json">`, whatever is in it."""
    return Markup(msgspec.json.encode(figure).decode().replace("<", "\\u003c"))


def indented(value: Any) -> str:
    """A value as JSON for people; Jinja escapes it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
