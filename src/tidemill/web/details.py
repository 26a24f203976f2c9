"""The pages of one release, one verdict and one event, with links to their causes and effects."""

from datetime import datetime
from typing import Any

from msgspec import Struct, to_builtins

from tidemill.checks.registry import find_check
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.errors import NotFound, TidemillError
from tidemill.evidence.attention import waits_for_approval
from tidemill.models.usage import describe_usage, read_example
from tidemill.web import view
from tidemill.web.pages import metric_table, route_table, verdict_table
from tidemill.web.reading import Query, Site
from tidemill.web.view import Cell, Facts, Offer, Page, PageTable

_SHOWN = 50
_LATEST = 12


def release(site: Site, _: Query, name: str, version: str) -> Page:
    """Show a release: its metrics, verdicts, routes and training data."""
    record = _find_release(site, name, version)
    gate = site.books.verdicts.find(run=record.run, limit=_SHOWN) if record.run else []
    live = site.books.verdicts.find(subject=record.label, newest=True, limit=_LATEST)
    routed = site.books.routes.find(linked=f"release:{record.label}", newest=True, limit=_SHOWN)
    usage = _read_usage(site, record)
    decisions = site.books.audit.find(subject=record.label, newest=True, limit=_SHOWN)
    facts = Facts(
        "",
        [
            ("created", view.time(record.created)),
            ("environment", record.environment),
            ("flavor", record.flavor),
            ("package", Cell(record.package, "mono")),
            ("run", view.link("runs", record.run)),
            ("tags", record.tags),
            ("verdicts", Cell("all verdicts", "", view.build_path("verdicts", subject=record.label))),
        ],
    )
    decision_rows = [
        [view.time(entry.time), Cell(entry.actor), Cell(entry.action), view.text(entry.reason)] for entry in decisions
    ]
    return Page(
        title=f"Release {record.label}",
        offers=_list_offers(site, record),
        data={"usage": usage, "release": record, "verdicts": gate, "live": live, "routes": routed, "audit": decisions},
        parts=[
            facts,
            *_describe_usage(usage),
            metric_table(record.metrics),
            verdict_table("Verdicts of its training", gate, "It has no verdicts of a training: it was imported."),
            route_table("Routes", routed),
            verdict_table("Latest verdicts in production", live, "There is no verdict yet."),
            PageTable("Decisions", ("time", "by", "decision", "reason"), decision_rows, "There is no decision."),
            Facts("Data", list(record.data.items())),
        ],
    )


def _list_offers(site: Site, record: Release) -> list[Offer]:
    """Return the decisions on a release that are possible now."""
    route = site.board.routes().get(record.name)
    champion = route.arm("champion") if route else None
    offers = []
    if waits_for_approval(site.books, site.environment, record.label):
        offers.append(Offer("approve", "Approve", record.label, f"{record.label} is rolled out as in its policy."))
    if route is not None and route.version > 1 and champion is not None and champion.release == record.label:
        about = f"the champion before {record.label} becomes the champion again."
        offers.append(Offer("roll-back", "Roll back", record.name, about))
    return offers


def _read_usage(site: Site, record: Release) -> dict[str, Any] | None:
    """Return the signature and an example of a release; None if its package cannot be read."""
    if site.packages is None:
        return None
    try:
        model = site.packages.load(record.package)
    except TidemillError:
        return None
    return describe_usage(record.name, record.label, model.manifest, read_example(model))


def _describe_usage(usage: dict[str, Any] | None) -> list[Facts]:
    if usage is None:
        return []
    inputs = [f"{column['name']} ({column['type']})" for column in usage["inputs"][:_SHOWN]]
    more = len(usage["inputs"]) - _SHOWN
    pairs = [
        ("task", usage["task"]),
        ("inputs", view.text(", ".join(inputs) + (f" and {more} more" if more > 0 else ""))),
        ("key", ", ".join(usage["key"])),
        ("time", usage["time"] or ""),
        ("classes", ", ".join(usage["classes"])),
        ("positive class", usage["positive"] or ""),
        ("request", Cell(usage["curl"] or "", "mono")),
    ]
    return [Facts("Signature", [(name, value) for name, value in pairs if value])]


def _find_release(site: Site, name: str, version: str) -> Release:
    records = site.books.releases.find(name=name, version=int(version), limit=1) if version.isdecimal() else []
    if not records:
        raise NotFound(f"there is no release {name}/{version}", "open the page of the releases for its list")
    return records[0]


def verdict(site: Site, _: Query, identifier: str) -> Page:
    """Show a verdict with all of its evidence."""
    record = site.books.verdicts.get(identifier)
    check = find_check(record.check)
    facts = Facts(
        "",
        [
            ("outcome", view.badge(record.outcome)),
            ("action", record.action),
            ("reason", record.reason),
            ("subject", view.link_release(record.subject)),
            ("compares", check.about if check else ""),
            ("reference", view.link_release(record.reference)),
            ("time", view.time(record.time)),
            ("model", record.model),
            ("run", view.link("runs", record.run)),
            ("environment", record.environment),
        ],
    )
    scalars = {name: value for name, value in record.evidence.items() if not _is_table(value)}
    tables = [_table(name, value) for name, value in record.evidence.items() if _is_table(value)]
    return Page(
        title=f"Verdict of {record.check}",
        lead=record.id,
        data={"verdict": record},
        parts=[facts, Facts("Evidence", [(name, _to_cell(value)) for name, value in scalars.items()]), *tables],
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _table(name: str, rows: list[dict[str, Any]]) -> PageTable:
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return PageTable(name.capitalize(), columns, [[_to_cell(row.get(column)) for column in columns] for row in rows])


def _to_cell(value: Any) -> Cell:
    if isinstance(value, bool) or value is None:
        return Cell("" if value is None else str(value).lower())
    if isinstance(value, int | float):
        return view.number(value)
    if isinstance(value, list | tuple):
        return Cell(", ".join(_to_cell(item).text for item in value))
    return view.text(str(value))


def event(site: Site, _: Query, identifier: str) -> Page:
    """Show an event with its payload and its cause."""
    record = site.books.events.get(identifier)
    facts = Facts(
        "",
        [
            ("subject", view.link_release(record.subject)),
            ("time", view.time(record.time)),
            ("known since", view.time(record.known_at)),
            ("caused by", _cause(site, record)),
            ("key", record.dedupe_key),
        ],
    )
    return Page(
        title=f"Event: {record.kind}",
        lead=record.id,
        data={"event": record},
        parts=[facts, Facts("Payload", list(record.payload.items()))],
    )


def _cause(site: Site, record: Event) -> Cell:
    """Return a link to the verdict or the run that caused an event."""
    if not record.cause:
        return Cell("")
    for list_name, book in (("verdicts", site.books.verdicts), ("runs", site.books.runs)):
        try:
            book.get(record.cause)
        except NotFound:
            continue
        return view.link(list_name, record.cause, f"{list_name.removesuffix('s')} {record.cause[:18]}")
    return Cell(record.cause)


def as_shown(value: Any) -> Any:
    """Return a value in the form in which a page shows it: a cell, text, or a value for JSON."""
    if isinstance(value, Cell | str):
        return value
    if isinstance(value, datetime):
        return view.time(value)
    if isinstance(value, bool | int | float) or value is None:
        return _to_cell(value)
    return to_builtins(value) if isinstance(value, Struct) else value
