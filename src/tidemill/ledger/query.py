"""Queries: SQL that finds records by any combination of conditions, starting with the rarest condition."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from tidemill.core.metric_filter import MetricFilter
from tidemill.ledger.connections import Connections
from tidemill.ledger.index import link_term, split_words
from tidemill.ledger.table import quote, shorten, to_searchable

LAST = "\U0010ffff"
_FEW = 10_000
_MANY = 100_000
_VALUES = 100
_NO_WORD = " "
_TERM = "SELECT id FROM terms WHERE book = ? AND term = ?"
_SIGNS = ("<=", ">=", "<", ">", "=")


class Condition(Struct, frozen=True):
    """A condition on a record: `test` is true for a matching record `r`, `ids` selects the matching ids in any order.

    `ordered_ids` selects the ids in their order, along an index, so that the newest come first; it is empty if no
    index has that order.
    """

    test: str
    test_parameters: tuple[Any, ...]
    ids: str
    id_parameters: tuple[Any, ...]
    ordered_ids: str


class QueryStart(Struct, frozen=True):
    """The first part of a query: the ids that match a condition; `sorted` is whether they are in order."""

    condition: Condition
    ids: str
    sorted: bool


def build_conditions(
    connections: Connections,
    table: str,
    equals: dict[str, Any],
    text: str = "",
    tag: str = "",
    metric: MetricFilter | None = None,
    linked: str = "",
) -> Iterator[Condition]:
    """Translate the arguments of `Book.find` into conditions."""
    for column, value in equals.items():
        yield _column_equals(table, column, value)
    for link in [linked] * bool(linked) + [f"tag:{tag}"] * bool(tag):
        yield _has_term(table, link_term(link))
    # A text without a word, such as "?", matches no record.
    for beginning in dict.fromkeys(split_words(text)) or [_NO_WORD] * bool(text.strip()):
        yield _has_word(connections, table, beginning)
    if metric is not None:
        yield _metric_matches(table, metric)


def _column_equals(table: str, column: str, value: Any) -> Condition:
    test, parameters = f"{quote(column)} = ?", (to_searchable(value),)
    ids = f"SELECT id FROM {table} WHERE {test}"
    return Condition(f"r.{test}", parameters, ids, parameters, ids)


def _has_term(table: str, term: str) -> Condition:
    parameters = (table, term)
    return Condition(f"EXISTS ({_TERM} AND terms.id = r.id)", parameters, _TERM, parameters, _TERM)


def _has_word(connections: Connections, table: str, beginning: str) -> Condition:
    test, parameters = "book = ? AND term >= ? AND term < ?", (table, beginning, beginning + LAST)
    least, last = (f"(SELECT {function}(term) FROM terms WHERE {test})" for function in ("min", "max"))
    statement = connections.database.statement(f"SELECT {least}, {last}")
    ((first, second),) = connections.read(statement, (*parameters, *parameters))
    if first is not None and first == second:
        return _has_term(table, first)
    ids = f"SELECT DISTINCT id FROM terms WHERE {test}"
    return Condition("r.words LIKE ?", (f"% {beginning}%",), ids, parameters, "")


def _metric_matches(table: str, metric: MetricFilter) -> Condition:
    if metric.sign not in _SIGNS:
        raise ValueError(f"unknown comparison {metric.sign!r}; use one of {', '.join(_SIGNS)}")
    test, parameters = f"value {metric.sign} ?", (table, shorten(metric.name), metric.value)
    named = "FROM measures WHERE book = ? AND name = ? AND"
    # The database uses no index for an expression. So `id || ''` makes it search by value, and `+value` by id.
    by_value, by_id = f"SELECT id || '' AS id {named} {test}", f"SELECT id {named} +{test}"
    return Condition(
        f"EXISTS (SELECT 1 {named} measures.id = r.id AND {test})", parameters, by_value, parameters, by_id
    )


def choose_start(connections: Connections, conditions: Sequence[Condition]) -> QueryStart | None:
    """Return the condition to start with: the rarest one.

    If many records match each condition, return a condition with ordered ids, or None if there is none.
    """
    if len(conditions) == 1 and conditions[0].ids == conditions[0].ordered_ids:
        return QueryStart(conditions[0], conditions[0].ids, sorted=True)
    counts = [(_count(connections, condition, _FEW), index) for index, condition in enumerate(conditions)]
    fewest, index = min(counts, default=(_FEW, 0))
    if fewest < _FEW:
        rarest = conditions[index]
        return QueryStart(rarest, rarest.ids, sorted=rarest.ids == rarest.ordered_ids)
    ordered = [condition for condition in conditions if condition.ordered_ids]
    if len(ordered) > 1:
        ordered.sort(key=lambda condition: _count(connections, condition, _MANY))
    return QueryStart(ordered[0], ordered[0].ordered_ids, sorted=True) if ordered else None


def _count(connections: Connections, condition: Condition, most: int) -> int:
    ids = condition.ids.replace("SELECT DISTINCT", "SELECT")
    sql = connections.database.statement(f"SELECT count(*) FROM ({ids} LIMIT {most}) AS found")
    return int(connections.read(sql, condition.id_parameters)[0][0])


def select(
    table: str,
    conditions: Sequence[Condition],
    start: QueryStart | None,
    bounds: Sequence[tuple[str, str]],
    *,
    newest: bool,
    limit: int | None,
) -> tuple[str, list[Any]]:
    """Return the query for the bodies, and its parameters.

    With a `start`, the query joins its ids with the table; without one, it scans the table until enough records match.
    `bounds` are comparisons of the id.
    """
    tests: list[tuple[str, tuple[Any, ...]]] = [
        (condition.test, condition.test_parameters)
        for condition in conditions
        if start is None or condition is not start.condition
    ]
    source, identifier, parameters = f"{table} AS r", "r.id", list[Any]()
    if start is not None:
        # CROSS JOIN fixes the order: SQLite cannot estimate the number of matches, and might scan the table first.
        source, identifier = f"({start.ids}) AS few CROSS JOIN {table} AS r", "few.id"
        parameters.extend(start.condition.id_parameters)
        tests.insert(0, ("r.id = few.id", ()))
    tests += [(f"{identifier} {sign} ?", (bound,)) for sign, bound in bounds]
    where = " WHERE " + " AND ".join(test for test, _ in tests) if tests else ""
    for _, test_parameters in tests:
        parameters.extend(test_parameters)
    order = " DESC" if newest else ""
    end = f"FROM {source}{where} ORDER BY {identifier}{order}{'' if limit is None else ' LIMIT ?'}"
    if limit is not None:
        parameters.append(limit)
    if start is None or start.sorted:
        return f"SELECT r.body {end}", parameters
    # The database sorts ids without the bodies, which are large.
    return f"SELECT body FROM {table} WHERE id IN (SELECT few.id {end}) ORDER BY id{order}", parameters


def select_distinct(
    connections: Connections, table: str, column: str, conditions: Sequence[Condition]
) -> tuple[str, list[Any]]:
    """Return the query for the distinct values of a column among the matching records, and its parameters.

    If many records match but the column has few values (a million runs have few pipelines), the query steps from each
    value to the next one by the index.
    """
    name = quote(column)
    parameters = [parameter for condition in conditions for parameter in condition.test_parameters]
    tests = "".join(f" AND {condition.test}" for condition in conditions)
    steps = (
        f"WITH RECURSIVE step(value) AS (SELECT min({name}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({name}) FROM {table} WHERE {name} > step.value) FROM step WHERE step.value IS NOT NULL)"
        " SELECT value FROM step WHERE value IS NOT NULL"
    )
    if not conditions:
        return steps, parameters
    many = min(_count(connections, condition, _FEW) for condition in conditions) >= _FEW
    if many and len(connections.read(f"{steps} LIMIT {_VALUES + 1}")) <= _VALUES:
        return f"{steps} AND EXISTS (SELECT 1 FROM {table} AS r WHERE r.{name} = step.value{tests})", parameters
    return f"SELECT DISTINCT r.{name} FROM {table} AS r WHERE r.{name} IS NOT NULL{tests}", parameters
