"""Which of the rows that were let in still count: not those of a place, or of a key, for which newer ones came."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import polars as pl

from tidemill.data.frame import ARRIVED
from tidemill.data.timestamps import TIMESTAMP

_SINCE = re.compile(r"(\d+)\+(\d+)")
_WHOLE = "all"
PathAndId = tuple[str, str]
"""The path of a batch, and its id."""


def drop_superseded_batches(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the batches that count, by the columns `_path`, `_batch` and `_arrived`.

    Of each file, and of each part of a place (`lake#3`), only the batch that was let in last counts. Of a place of
    which all was let in (`orders#all`) it is that, or what came in parts, whichever is newer. Of a place that was
    written anew (`lake#7+0`) nothing counts that came before, nor what came after (`lake#7+1`) while that is not in.
    """
    if ARRIVED not in rows.columns:
        rows = rows.with_columns(pl.lit(None, TIMESTAMP).alias(ARRIVED))
    batches = rows.select("_path", "_batch", ARRIVED).unique(["_path", "_batch"], keep="first", maintain_order=True)
    # Rows of before there was such a column come in the order of the table's log: the newest first.
    newest_first = batches.sort(ARRIVED, descending=True, nulls_last=True, maintain_order=True)
    count = pl.DataFrame(_counting(newest_first.select("_path", "_batch").rows()), ["_path", "_batch"], orient="row")
    if count.height == batches.height:
        return rows
    return rows.join(count, on=["_path", "_batch"], how="semi", maintain_order="left")


def _counting(newest_first: Iterable[PathAndId]) -> Iterator[PathAndId]:
    parts: dict[str, dict[str, PathAndId]] = defaultdict(dict)
    split = {batch: _split(batch[0]) for batch in newest_first}
    names = _names_in_the_project({place for place, _ in split.values()})
    for batch, (place, part) in split.items():
        parts[names.get(place, place)].setdefault(part, batch)
    for there in parts.values():
        since = {part: int(found[1]) if (found := _SINCE.fullmatch(part)) else 0 for part in there}
        begun = max((since[part] for part in there if part.endswith("+0")), default=0)
        in_parts = next(iter(there)) != _WHOLE
        for part, batch in there.items():
            if since[part] == begun and (part == _WHOLE) != in_parts:
                yield batch


def _split(path: str) -> tuple[str, str]:
    """A place and a part of it: (`lake`, `3`) of `lake#3`; a file has none."""
    place, mark, part = path.rpartition("#")
    return (place, part) if mark else (path, "")


def _names_in_the_project(places: set[str]) -> dict[str, str]:
    """The names in the project of what was let in under the whole path of a folder, here or elsewhere.

    >>> _names_in_the_project({"/home/ada/a.csv", "a.csv", "sqlite:////home/ada/x.db t", "sqlite:///x.db t", "b.csv"})
    {'/home/ada/a.csv': 'a.csv', 'sqlite:////home/ada/x.db t': 'sqlite:///x.db t'}
    """
    found = {}
    for place in sorted(places):
        form, mark, path = place.rpartition(":///")
        if not path.startswith("/"):
            continue
        parts = path.split("/")
        within = (f"{form}{mark}{'/'.join(parts[begin:])}" for begin in range(1, len(parts)))
        if name := next((one for one in within if one in places), ""):
            found[place] = name
    return found


def drop_repeated_keys(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Of rows with the same key those of the batch that was let in last; a row without its key is one of its own."""
    if not key or not set(key) <= set(rows.columns) or not rows.select(key).is_duplicated().any():
        return rows
    has = pl.all_horizontal(pl.col(name).is_not_null() for name in key)
    if rows.filter(has).select("_batch", *key).is_duplicated().any():
        return rows  # it names no row: even a batch has it twice, and was let in so
    arrived = pl.col(ARRIVED).fill_null(datetime.min.replace(tzinfo=UTC))
    return rows.filter(~has | (arrived == arrived.max().over(*key)))
