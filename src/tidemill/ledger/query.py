"""Queries: the shortest way through a book to the records that fit, whatever is asked of them together."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from tidemill.core.metric_filter import MetricFilter
from tidemill.ledger.connections import Connections
from tidemill.ledger.index import link_term, words
from tidemill.ledger.table import quoted, searchable, shortened

LAST = "\U0010ffff"
_FEW = 10_000
_MANY = 100_000
_VALUES = 100
_NO_WORD = " "
_TERM = "SELECT id FROM terms WHERE book = ? AND term = ?"
_SIGNS = ("<=", ">=", "<", ">", "=")


class Condition(Struct, frozen=True):
    """One thing that is asked of a record: `holds` tests a record `r`, `ids` lists those that fit in any order.

    `in_order` lists them by their ids, along an index, so that the newest of them are at hand; empty if none does.
    """

    holds: str
    tested: tuple[Any, ...]
    ids: str
    listed: tuple[Any, ...]
    in_order: str


class Way(Struct, frozen=True):
    """How a query begins: with the ids that fit a condition, which come in the order of ids if they are `sorted`."""

    condition: Condition
    ids: str
    sorted: bool


def conditions(
    connections: Connections,
    table: str,
    equals: dict[str, Any],
    text: str = "",
    tag: str = "",
    metric: MetricFilter | None = None,
    linked: str = "",
) -> Iterator[Condition]:
    """All that is asked of the records of a table."""
    for column, value in equals.items():
        yield _equal(table, column, value)
    for link in [linked] * bool(linked) + [f"tag:{tag}"] * bool(tag):
        yield _linked_with(table, link)
    # A text without a word has nothing that a record could have.
    for beginning in dict.fromkeys(words(text)) or [_NO_WORD] * bool(text.strip()):
        yield _having_word(connections, table, beginning)
    if metric is not None:
        yield _measured(table, metric)


def _equal(table: str, column: str, value: Any) -> Condition:
    test, given = f"{quoted(column)} = ?", (searchable(value),)
    ids = f"SELECT id FROM {table} WHERE {test}"
    return Condition(f"r.{test}", given, ids, given, ids)


def _linked_with(table: str, link: str) -> Condition:
    return _standing_under(table, link_term(link))


def _standing_under(table: str, term: str) -> Condition:
    given = (table, term)
    return Condition(f"EXISTS ({_TERM} AND terms.id = r.id)", given, _TERM, given, _TERM)


def _having_word(connections: Connections, table: str, beginning: str) -> Condition:
    test, given = "book = ? AND term >= ? AND term < ?", (table, beginning, beginning + LAST)
    least, last = (f"(SELECT {which}(term) FROM terms WHERE {test})" for which in ("min", "max"))
    ((first, second),) = connections.read(connections.database.statement(f"SELECT {least}, {last}"), (*given, *given))
    if first is not None and first == second:
        return _standing_under(table, first)
    return Condition("r.words LIKE ?", (f"% {beginning}%",), f"SELECT DISTINCT id FROM terms WHERE {test}", given, "")


def _measured(table: str, metric: MetricFilter) -> Condition:
    if metric.sign not in _SIGNS:
        raise ValueError(f"{metric.sign!r} compares nothing")
    test, given = f"value {metric.sign} ?", (table, shortened(metric.name), metric.value)
    named = "FROM measures WHERE book = ? AND name = ? AND"
    # An expression is not what an index is ordered by: few are found by their values, many by their ids.
    by_value, by_id = f"SELECT id || '' AS id {named} {test}", f"SELECT id {named} +{test}"
    return Condition(f"EXISTS (SELECT 1 {named} measures.id = r.id AND {test})", given, by_value, given, by_id)


def begin_with(connections: Connections, asked: Sequence[Condition]) -> Way | None:
    """The condition to begin with: the rarest one; None where many records fit each, and none lists them in order."""
    if len(asked) == 1 and asked[0].ids == asked[0].in_order:
        return Way(asked[0], asked[0].ids, sorted=True)
    counted = [(_count(connections, condition, _FEW), place) for place, condition in enumerate(asked)]
    fewest, place = min(counted, default=(_FEW, 0))
    if fewest < _FEW:
        return Way(asked[place], asked[place].ids, sorted=asked[place].ids == asked[place].in_order)
    in_order = [condition for condition in asked if condition.in_order]
    if len(in_order) > 1:
        in_order.sort(key=lambda condition: _count(connections, condition, _MANY))
    return Way(in_order[0], in_order[0].in_order, sorted=True) if in_order else None


def _count(connections: Connections, condition: Condition, most: int) -> int:
    few = condition.ids.replace("SELECT DISTINCT", "SELECT")
    sql = connections.database.statement(f"SELECT count(*) FROM ({few} LIMIT {most}) AS found")
    return int(connections.read(sql, condition.listed)[0][0])


def select(
    table: str,
    asked: Sequence[Condition],
    way: Way | None,
    within: Sequence[tuple[str, str]],
    *,
    newest: bool,
    limit: int | None,
) -> tuple[str, list[Any]]:
    """The query for the bodies, and its parameters.

    It goes the `way` from ids to their records; without one, along the book until enough records fit.
    `within` holds comparisons of the id.
    """
    tests = [
        (condition.holds, condition.tested) for condition in asked if way is None or condition is not way.condition
    ]
    source, place, given = f"{table} AS r", "r.id", list[Any]()
    if way is not None:
        # CROSS: SQLite does not know how many fit, and might begin with what nearly all have.
        source, place = f"({way.ids}) AS few CROSS JOIN {table} AS r", "few.id"
        given.extend(way.condition.listed)
        tests.insert(0, ("r.id = few.id", ()))
    tests += [(f"{place} {sign} ?", (bound,)) for sign, bound in within]
    where = " WHERE " + " AND ".join(test for test, _ in tests) if tests else ""
    for _, parameters in tests:
        given.extend(parameters)
    order = " DESC" if newest else ""
    end = f"FROM {source}{where} ORDER BY {place}{order}{'' if limit is None else ' LIMIT ?'}"
    if limit is not None:
        given.append(limit)
    if way is None or way.sorted:
        return f"SELECT r.body {end}", given
    # What has to be sorted is sorted without the bodies.
    return f"SELECT body FROM {table} WHERE id IN (SELECT few.id {end}) ORDER BY id{order}", given


def distinct(connections: Connections, table: str, column: str, asked: Sequence[Condition]) -> tuple[str, list[Any]]:
    """The query for the different values of a searched column among the records that fit, and its parameters.

    Where many records fit but the column has few values, as a million runs have few pipelines, it goes from each
    value to the next one by the index.
    """
    name = quoted(column)
    given = [parameter for condition in asked for parameter in condition.tested]
    tests = "".join(f" AND {condition.holds}" for condition in asked)
    steps = (
        f"WITH RECURSIVE step(value) AS (SELECT min({name}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({name}) FROM {table} WHERE {name} > step.value) FROM step WHERE step.value IS NOT NULL)"
        " SELECT value FROM step WHERE value IS NOT NULL"
    )
    if not asked:
        return steps, given
    many = min(_count(connections, condition, _FEW) for condition in asked) >= _FEW
    if many and len(connections.read(f"{steps} LIMIT {_VALUES + 1}")) <= _VALUES:
        return f"{steps} AND EXISTS (SELECT 1 FROM {table} AS r WHERE r.{name} = step.value{tests})", given
    return f"SELECT DISTINCT r.{name} FROM {table} AS r WHERE r.{name} IS NOT NULL{tests}", given
