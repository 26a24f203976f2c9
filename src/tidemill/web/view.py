"""What a page shows, before it is HTML: cells, tables and facts; and the same records as JSON."""

from typing import Any, Literal
from urllib.parse import quote, urlencode

from msgspec import Struct, field

from tidemill.data.charts import Figure
from tidemill.evidence.formatting import format_duration, format_number
from tidemill.web import words

Look = Literal["", "text", "time", "count", "mono", "good", "bad", "warn", "tide", "plain"]

_LOOKS: dict[str, Look] = {
    "pass": "good",
    "done": "good",
    "ran": "good",
    "promote": "good",
    "warn": "warn",
    "undecided": "plain",
    "fail": "bad",
    "failed": "bad",
    "stopped": "bad",
    "stop": "bad",
    "rollback": "bad",
    "interrupted": "warn",
    "retrain": "warn",
    "recall": "warn",
    "collect": "warn",
    "running": "tide",
    "cached": "tide",
}


class Cell(Struct, frozen=True):
    """A value as it is shown, and where it leads."""

    text: str
    look: Look = ""
    href: str = ""
    title: str = ""


class Table(Struct, frozen=True):
    """Rows under the names of their columns; `nothing` is said where there are none."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    nothing: str = ""


class Facts(Struct, frozen=True):
    """Names with their values; a value is a cell, or anything that is shown as JSON."""

    title: str
    pairs: list[tuple[str, Any]]


class Filter(Struct, frozen=True):
    """Values of a searched column to choose from."""

    name: str
    chosen: str
    choices: list[tuple[str, str]]


class Chart(Struct, frozen=True):
    """A figure, and the sentence that says it in words."""

    name: str
    figure: Figure
    caption: str


class Page(Struct, frozen=True, kw_only=True):
    """One page: `data` is what `?format=json` gives of it."""

    title: str
    data: dict[str, Any]
    lead: str = ""
    template: str = "page.html"
    filters: list[Filter] = []
    text: str | None = None
    parts: list[Table | Facts | Chart] = []
    newest: str = ""
    older: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def badge(value: str, href: str = "") -> Cell:
    """A state or an outcome, by sign and colour."""
    return Cell(value, _LOOKS.get(value, "plain"), href)


def moment(value: Any) -> Cell:
    """A moment in UTC."""
    return Cell(words.when(value), "time")


def count(value: float | None) -> Cell:
    """A number."""
    return Cell(format_number(value), "count")


def lasted(value: float | None) -> Cell:
    """A duration."""
    return Cell(format_duration(value), "count")


def text(value: str) -> Cell:
    """A sentence."""
    return Cell(value, "text")


def digest(value: str) -> Cell:
    """A digest by its first letters; the whole is its title."""
    return Cell(value[:12], "mono", "", value)


def to(noun: str, identifier: str, shown: str = "") -> Cell:
    """A link to the page of a record; nothing where there is no id."""
    if not identifier:
        return Cell("")
    return Cell(shown or identifier[:18], "" if shown else "mono", address(noun, identifier), identifier)


def to_release(label: str) -> Cell:
    """A link to the page of a release such as flights/3; plain text for any other subject."""
    name, _, version = label.rpartition("/")
    return Cell(label, "", address("releases", name, version)) if name and version.isdigit() else Cell(label)


def address(*parts: str, **query: str) -> str:
    """The path of a page."""
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    asked = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(asked)}" if asked else path
