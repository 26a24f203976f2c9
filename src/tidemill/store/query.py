"""Queries: the shortest way through a book to the records that fit, whatever is asked of them together."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tidemill.core.resources import Comparison
from tidemill.store.connections import Connections
from tidemill.store.index import link_term, words
from tidemill.store.table import quoted, searchable, shortened

LAST = "\U0010ffff"
_FEW = 20_000
_NO_WORD = " "
_SIGNS = ("<=", ">=", "<", ">", "=")


class Condition(Struct, frozen=True):
    """One thing that is asked of a record: `holds` tests a record `r`, `ids` lists those that fit."""

    holds: str
    tested: tuple[Any, ...]
    ids: str
    listed: tuple[Any, ...]
    kind: str


def equal(table: str, column: str, value: Any) -> Condition:
    """A searched column has this value."""
    given = (searchable(value),)
    return Condition(
        f"r.{quoted(column)} = ?", given, f"SELECT id FROM {table} WHERE {quoted(column)} = ?", given, "column"
    )


def having_word(table: str, beginning: str) -> Condition:
    """Some word of the record begins like this."""
    return Condition(
        "r.words LIKE ?",
        (f"% {beginning}%",),
        "SELECT id FROM terms WHERE book = ? AND term >= ? AND term < ?",
        (table, beginning, beginning + LAST),
        "word",
    )


def linked_with(table: str, link: str) -> Condition:
    """The record has this link."""
    term = link_term(link)
    return Condition(
        "EXISTS (SELECT 1 FROM terms WHERE book = ? AND term = ? AND terms.id = r.id)",
        (table, term),
        "SELECT id FROM terms WHERE book = ? AND term = ?",
        (table, term),
        "link",
    )


def measured(table: str, metric: Comparison) -> Condition:
    """A measure of the record compares so with a number."""
    if metric.sign not in _SIGNS:
        raise ValueError(f"{metric.sign!r} compares nothing")
    given = (table, shortened(metric.name), metric.value)
    return Condition(
        f"EXISTS (SELECT 1 FROM measures WHERE book = ? AND name = ? AND measures.id = r.id AND value {metric.sign} ?)",
        given,
        f"SELECT id FROM measures WHERE book = ? AND name = ? AND value {metric.sign} ?",
        given,
        "measure",
    )


def conditions(
    table: str, text: str, tag: str, metric: Comparison | None, linked: str, equals: dict[str, Any]
) -> list[Condition]:
    """All that is asked of the records of a table."""
    links = [linked] * bool(linked) + [f"tag:{tag}"] * bool(tag)
    sought = dict.fromkeys(words(text)) or [_NO_WORD] * bool(text.strip())
    return [
        *(equal(table, column, value) for column, value in equals.items()),
        *(linked_with(table, link) for link in links),
        *(having_word(table, word) for word in sought),
        *([] if metric is None else [measured(table, metric)]),
    ]


def begin_with(connections: Connections, asked: Sequence[Condition]) -> Condition | None:
    """The condition to begin with: the rarest where it is rare, else a link, whose records lie together in order."""
    link = next((condition for condition in asked if condition.kind == "link"), None)
    if len(asked) == 1 and asked[0].kind in ("column", "link"):
        return link
    counted = ((_count(connections, condition), place) for place, condition in enumerate(asked))
    fewest, place = min(counted, default=(_FEW + 1, 0))
    return asked[place] if fewest <= _FEW else link


def _count(connections: Connections, condition: Condition) -> int:
    sql = f"SELECT count(*) FROM ({condition.ids} LIMIT {_FEW + 1}) AS found"
    rows = connections.read(connections.database.statement(sql), condition.listed)
    return int(rows[0][0])


def select(
    table: str, asked: Sequence[Condition], first: Condition | None, within: Sequence[tuple[str, str]], order: str
) -> tuple[str, list[Any]]:
    """The query for the bodies, and its parameters.

    It goes from the ids that fit `first` to their records; without it, along the book until enough records fit.
    `within` holds comparisons of the id.
    """
    tests = [(condition.holds, condition.tested) for condition in asked if condition is not first]
    source, place, given = f"{table} AS r", "r.id", list[Any]()
    if first is not None:
        # A link has each id once and in order; the few ids of another are made distinct.
        ids = first.ids if first.kind == "link" else first.ids.replace("SELECT ", "SELECT DISTINCT ", 1)
        source, place = f"({ids}) AS few CROSS JOIN {table} AS r", "few.id"
        given.extend(first.listed)
        tests.insert(0, ("r.id = few.id", ()))
    tests += [(f"{place} {sign} ?", (bound,)) for sign, bound in within]
    where = " AND ".join(test for test, _ in tests)
    for _, parameters in tests:
        given.extend(parameters)
    return f"SELECT r.body FROM {source}{' WHERE ' * bool(where)}{where} ORDER BY {place}{order}", given
