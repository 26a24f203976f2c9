"""Finds the current rows among all accepted ones: newer batches of a path, and newer rows of a key, replace older."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from tidemill.core.columns import ARRIVED, BATCH, KNOWN_AT, PATH
from tidemill.data.keys import to_row_keys
from tidemill.data.timestamps import TIMESTAMP

_SINCE = re.compile(r"(\d+)\+(\d+)")
_WHOLE = "all"
PathAndId = tuple[str, str]
"""The path of a batch, and its id."""


def drop_superseded_batches(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the current batches, by their batch, its path and its time of arrival.

    Of each file, and of each part of a table (`lake#3`), the batch that was accepted last is current. Of a table that
    was accepted both as a whole (`orders#all`) and in parts, the newer form is current. Of a table that was rewritten
    (`lake#7+0`), no earlier part is current, and no later part (`lake#7+1`) until the rewritten table is accepted.
    """
    if ARRIVED not in rows.columns:
        rows = rows.with_columns(pl.lit(None, TIMESTAMP).alias(ARRIVED))
    batches = rows.select(PATH, BATCH, ARRIVED).unique([PATH, BATCH], keep="first", maintain_order=True)
    # Rows from before this column existed are in the order of the table's log: the newest first.
    newest_first = batches.sort(ARRIVED, descending=True, nulls_last=True, maintain_order=True)
    current = pl.DataFrame(_current(newest_first.select(PATH, BATCH).rows()), [PATH, BATCH], orient="row")
    if current.height == batches.height:
        return rows
    return rows.join(current, on=[PATH, BATCH], how="semi", maintain_order="left")


def _current(newest_first: Iterable[PathAndId]) -> Iterator[PathAndId]:
    tables: dict[str, dict[str, PathAndId]] = defaultdict(dict)
    split = {batch: _split(batch[0]) for batch in newest_first}
    names = _names_in_project({path for path, _ in split.values()})
    for batch, (path, part) in split.items():
        tables[names.get(path, path)].setdefault(part, batch)
    for parts in tables.values():
        versions = {part: int(match[1]) if (match := _SINCE.fullmatch(part)) else 0 for part in parts}
        rewritten = max((versions[part] for part in parts if part.endswith("+0")), default=0)
        in_parts = next(iter(parts)) != _WHOLE
        for part, batch in parts.items():
            if versions[part] == rewritten and (part == _WHOLE) != in_parts:
                yield batch


def _split(path: str) -> tuple[str, str]:
    """Split the path of a batch into its table and part: `lake#3` into (`lake`, `3`); a file has no part."""
    table, mark, part = path.rpartition("#")
    return (table, part) if mark else (path, "")


def _names_in_project(paths: set[str]) -> dict[str, str]:
    """Return the relative path in the project for each absolute path that ends with one.

    >>> _names_in_project({"/home/ada/a.csv", "a.csv", "sqlite:////home/ada/x.db t", "sqlite:///x.db t", "b.csv"})
    {'/home/ada/a.csv': 'a.csv', 'sqlite:////home/ada/x.db t': 'sqlite:///x.db t'}
    """
    names = {}
    for path in sorted(paths):
        scheme, mark, location = path.rpartition(":///")
        if not location.startswith("/"):
            continue
        parts = location.split("/")
        suffixes = (f"{scheme}{mark}{'/'.join(parts[begin:])}" for begin in range(1, len(parts)))
        if name := next((suffix for suffix in suffixes if suffix in paths), ""):
            names[path] = name
    return names


def drop_repeated_keys(rows: pl.DataFrame, key: Sequence[str], *, by_known_at: bool = False) -> pl.DataFrame:
    """Return, of the rows with the same key, that of the batch that was accepted last; rows without a key stay.

    With `by_known_at` it is the row that became known last, and of several the one that was accepted last.
    """
    if not key or not set(key) <= set(rows.columns):
        return rows
    keys = to_row_keys(rows, key).alias("key")
    if not keys.drop_nulls().is_duplicated().any():
        return rows
    versions = pl.DataFrame([keys, rows[BATCH], rows[ARRIVED]]).with_row_index("row")
    versions = versions.with_columns(rows[KNOWN_AT].alias("known") if by_known_at else pl.lit(None).alias("known"))
    named = versions.drop_nulls("key")
    if named.select(BATCH, "key").is_duplicated().any():
        return rows  # the key identifies no row: an accepted batch contains it more than once
    # Rows from before the column `ARRIVED` existed are in the order of the table's log: the newest first.
    by_age = named.sort("known", ARRIVED, "row", descending=[False, False, True], nulls_last=False)
    current = by_age.unique("key", keep="last")["row"]
    return rows.filter(keys.is_null() | pl.int_range(rows.height, eager=True).is_in(current.implode()))
