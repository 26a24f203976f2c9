"""One record on its page, with what it came from and what came of it."""

from datetime import datetime
from typing import Any

from msgspec import Struct, to_builtins

from tidemill.checks.registry import find_check
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.errors import NotFound
from tidemill.web import view
from tidemill.web.pages import metric_table, route_table, verdict_table
from tidemill.web.reading import Query, Site
from tidemill.web.view import Cell, Facts, Page, Table

_SHOWN = 50
_LATEST = 12


def release(site: Site, _: Query, name: str, version: str) -> Page:
    """A release: what it scored, who judged it, when it answered, and what it was made of."""
    record = _release(site, name, version)
    gate = site.books.verdicts.find(run=record.run, limit=_SHOWN) if record.run else []
    live = site.books.verdicts.find(subject=record.label, newest=True, limit=_LATEST)
    routed = site.books.routes.find(linked=f"release:{record.label}", newest=True, limit=_SHOWN)
    decisions = site.books.audit.find(subject=record.label, newest=True, limit=_SHOWN)
    known = Facts(
        "",
        [
            ("made", view.moment(record.created)),
            ("environment", record.environment),
            ("flavor", record.flavor),
            ("package", Cell(record.package, "mono")),
            ("run", view.to("runs", record.run)),
            ("tags", record.tags),
            ("verdicts on it", Cell("all of them", "", view.address("verdicts", subject=record.label))),
        ],
    )
    decided = [
        [view.moment(entry.time), Cell(entry.actor), Cell(entry.action), view.text(entry.reason)] for entry in decisions
    ]
    return Page(
        title=f"Release {record.label}",
        data={"release": record, "verdicts": gate, "live": live, "routes": routed, "audit": decisions},
        parts=[
            known,
            metric_table(record.metrics),
            verdict_table("What let it through", gate, "No run made it here: it was taken in from elsewhere."),
            route_table("When it answered", routed),
            verdict_table("What was found on it lately", live, "Nothing was judged on it since."),
            Table("What people decided", ("when", "who", "what", "why"), decided, "Nobody had to decide."),
            Facts("Data", list(record.data.items())),
        ],
    )


def _release(site: Site, name: str, version: str) -> Release:
    found = site.books.releases.find(name=name, version=int(version), limit=1) if version.isdecimal() else []
    if not found:
        raise NotFound(f"there is no release {name}/{version}", "the page of the releases lists them")
    return found[0]


def verdict(site: Site, _: Query, identifier: str) -> Page:
    """A verdict with its whole evidence."""
    record = site.books.verdicts.get(identifier)
    check = find_check(record.check)
    known = Facts(
        "",
        [
            ("outcome", view.badge(record.outcome)),
            ("calls for", record.action),
            ("why", record.reason),
            ("subject", view.to_release(record.subject)),
            ("compares", check.about if check else ""),
            ("reference", view.to_release(record.reference)),
            ("when", view.moment(record.time)),
            ("model", record.model),
            ("run", view.to("runs", record.run)),
            ("environment", record.environment),
        ],
    )
    scalars = {name: value for name, value in record.evidence.items() if not _is_table(value)}
    tables = [_table(name, value) for name, value in record.evidence.items() if _is_table(value)]
    return Page(
        title=f"Verdict of {record.check}",
        lead=record.id,
        data={"verdict": record},
        parts=[known, Facts("Evidence", [(name, _shown(value)) for name, value in scalars.items()]), *tables],
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return Table(name.capitalize(), columns, [[_shown(row.get(column)) for column in columns] for row in rows])


def _shown(value: Any) -> Cell:
    if isinstance(value, bool) or value is None:
        return Cell("" if value is None else str(value).lower())
    if isinstance(value, int | float):
        return view.count(value)
    if isinstance(value, list | tuple):
        return Cell(", ".join(_shown(one).text for one in value))
    return view.text(str(value))


def event(site: Site, _: Query, identifier: str) -> Page:
    """An event with what it says and what caused it."""
    record = site.books.events.get(identifier)
    known = Facts(
        "",
        [
            ("subject", view.to_release(record.subject)),
            ("when", view.moment(record.time)),
            ("known since", view.moment(record.known_at)),
            ("caused by", _cause(site, record)),
            ("key", record.dedupe_key),
        ],
    )
    return Page(
        title=f"Event: {record.kind}",
        lead=record.id,
        data={"event": record},
        parts=[known, Facts("What it says", list(record.payload.items()))],
    )


def _cause(site: Site, record: Event) -> Cell:
    """A link to the verdict or the run that an event came of."""
    if not record.cause:
        return Cell("")
    for noun, book in (("verdicts", site.books.verdicts), ("runs", site.books.runs)):
        try:
            book.get(record.cause)
        except NotFound:
            continue
        return view.to(noun, record.cause, f"{noun.removesuffix('s')} {record.cause[:18]}")
    return Cell(record.cause)


def plain(value: Any) -> Any:
    """A value of a fact as it is written out: text as it is, the rest as JSON."""
    if isinstance(value, Cell | str):
        return value
    if isinstance(value, datetime):
        return view.moment(value)
    if isinstance(value, bool | int | float) or value is None:
        return _shown(value)
    return to_builtins(value) if isinstance(value, Struct) else value
