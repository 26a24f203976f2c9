"""The content of a page before it is HTML: cells, tables and facts; and the same records as JSON."""

from typing import Any, Literal
from urllib.parse import quote, urlencode

from msgspec import Struct, field

from tidemill.data.charts import Figure
from tidemill.evidence.formatting import format_duration, format_number
from tidemill.web import words

CellStyle = Literal["", "text", "time", "count", "mono", "good", "bad", "warn", "tide", "plain"]

_STYLES: dict[str, CellStyle] = {
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
    """A shown value with its style and its link."""

    text: str
    style: CellStyle = ""
    href: str = ""
    title: str = ""


class PageTable(Struct, frozen=True):
    """Rows with the names of their columns; `empty` is the text if there are no rows."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    empty: str = ""


class Facts(Struct, frozen=True):
    """Names with their values; a value is a cell, or a value that is shown as JSON."""

    title: str
    pairs: list[tuple[str, Any]]


class PageFilter(Struct, frozen=True):
    """The values of a column to filter by."""

    name: str
    chosen: str
    choices: list[tuple[str, str]]


class Chart(Struct, frozen=True):
    """A figure and its caption."""

    name: str
    figure: Figure
    caption: str


class Offer(Struct, frozen=True):
    """A decision that a page offers: the name of its action, its title, its subject, and its effect."""

    action: str
    title: str
    subject: str
    about: str


class Page(Struct, frozen=True, kw_only=True):
    """One page; `?format=json` returns its `data`."""

    title: str
    data: dict[str, Any]
    lead: str = ""
    template: str = "page.html"
    filters: list[PageFilter] = []
    text: str | None = None
    parts: list[PageTable | Facts | Chart] = []
    newest: str = ""
    older: str = ""
    offers: list[Offer] = []
    extra: dict[str, Any] = field(default_factory=dict)


def badge(value: str, href: str = "") -> Cell:
    """Return a state or an outcome as a coloured badge."""
    return Cell(value, _STYLES.get(value, "plain"), href)


def time(value: Any) -> Cell:
    """Return a time in UTC."""
    return Cell(words.format_time(value), "time")


def number(value: float | None) -> Cell:
    """Return a number."""
    return Cell(format_number(value), "count")


def duration(value: float | None) -> Cell:
    """Return a duration."""
    return Cell(format_duration(value), "count")


def text(value: str) -> Cell:
    """Return a sentence."""
    return Cell(value, "text")


def digest(value: str) -> Cell:
    """Return the first characters of a digest; the title has the whole digest."""
    return Cell(value[:12], "mono", "", value)


def link(list_name: str, identifier: str, label: str = "") -> Cell:
    """Return a link to the page of a record; an empty cell if there is no id."""
    if not identifier:
        return Cell("")
    return Cell(label or identifier[:18], "" if label else "mono", build_path(list_name, identifier), identifier)


def link_release(label: str) -> Cell:
    """Return a link to the page of a release such as flights/3; plain text for other subjects."""
    name, _, version = label.rpartition("/")
    return Cell(label, "", build_path("releases", name, version)) if name and version.isdigit() else Cell(label)


def build_path(*parts: str, **query: str) -> str:
    """Return the path of a page with its query."""
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    parameters = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(parameters)}" if parameters else path
