"""Checks a table in parts: the verdict on all of them is that on the whole table.

Duplicate keys are found by 128 bits of a hash of each key, which need 16 bytes of memory for each row.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from msgspec.structs import replace

from tidemill.checks.table import (
    TableFault,
    describe_fault,
    describe_values,
    find_faults,
    find_most_missing,
    judge_anomalies,
    mark_bad_rows,
)
from tidemill.core.check import Verdict
from tidemill.core.columns import PREFIX
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.keys import to_row_keys
from tidemill.data.storable import to_storable

_SHOWN, _SHOWN_ROWS = 5, 3
_OF_VALUES = ("missing values", "not finite", "below range", "above range", "outside domain")
_STAGES = (
    ("missing column", "wrong type"),
    ("unexpected column",),
    _OF_VALUES,
    ("duplicate keys",),
    ("unreadable time", "time in the future"),
    ("too few rows",),
)
_COUNT = re.compile(r"^has \d+ ")


class TableParts:
    """Takes the parts of a table in their order, and returns the verdict on the table after the last one."""

    def __init__(self, subject: str, schema: Schema, source: Source, arrived: datetime) -> None:
        self._subject, self._schema, self._source, self._arrived = subject, schema, source, arrived
        # Shares of nulls, keys and the number of rows are those of the whole table.
        columns = tuple(replace(column, missing=0.0) if column.missing < 1 else column for column in schema.columns)
        self._part_schema = replace(schema, columns=columns, key=(), minimum_rows=0)
        self._anomalies: dict[tuple[str, str], dict[str, Any]] = {}
        self._keys: list[pl.DataFrame] = []
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Check a part, and return its bad rows; those with nulls or keys that are accepted may be among them.

        Raises
        ------
        Unreadable
            if a column can be stored in no type without loss.
        """
        frame = to_storable(frame, self._subject)
        faults = find_faults(frame, self._part_schema, self._source, self._arrived)
        for fault in faults:
            self._add_fault(frame, fault)
        if self._schema.key and set(self._schema.key) <= set(frame.columns):
            self._keys.append(_hash_keys(to_row_keys(frame, self._schema.key)))
        self.rows += frame.height
        return mark_bad_rows(frame, faults)

    def _add_fault(self, frame: pl.DataFrame, fault: TableFault) -> None:
        found = describe_fault(frame, self._part_schema, fault)
        for row in found["sample_rows"]:
            name = f"{PREFIX}row" if f"{PREFIX}row" in row else "row"
            row[name] = str(int(row[name]) + self.rows)
        before = self._anomalies.setdefault((fault.kind, fault.column), found)
        if before is found:
            return
        before["rows"] += found["rows"]
        before["samples"] = list(dict.fromkeys([*before["samples"], *found["samples"]]))[:_SHOWN]
        before["sample_rows"] = [*before["sample_rows"], *found["sample_rows"]][:_SHOWN_ROWS]
        before["what"] = _COUNT.sub(f"has {before['rows']} ", before["what"])

    def finish(self) -> Verdict:
        """Return the verdict on the table."""
        anomalies = [*self._merge(), *self._find_duplicates()]
        if self.rows < self._schema.minimum_rows:
            what = f"has {self.rows} rows (minimum {self._schema.minimum_rows})"
            anomalies.append(_create_anomaly("", "too few rows", what, self.rows))
        anomalies.sort(key=lambda anomaly: self._order(anomaly["kind"], anomaly["column"]))
        return judge_anomalies(self._subject, self._schema, self.rows, anomalies)

    def _merge(self) -> Iterator[dict[str, Any]]:
        """Yield the anomalies of the parts that are anomalies of the table."""
        columns = {column.name: column for column in self._schema.columns}
        for (kind, name), anomaly in self._anomalies.items():
            if kind in (*_OF_VALUES, "unreadable time") and ("wrong type", name) in self._anomalies:
                continue  # the values of a column of another type are not tested
            if kind in _OF_VALUES:
                column, bad = columns[name], anomaly["rows"]
                if kind == "missing values" and bad <= find_most_missing(column.missing, bad, self.rows):
                    continue
                anomaly["what"] = describe_values(kind, column, bad, self.rows, anomaly["samples"])
            yield anomaly

    def _find_duplicates(self) -> Iterator[dict[str, Any]]:
        repeated = count_repeated(self._keys)
        if repeated:
            what = f"has {repeated} duplicate key" + "s" * (repeated > 1)
            yield _create_anomaly(", ".join(self._schema.key), "duplicate keys", what, repeated)

    def _order(self, kind: str, name: str) -> tuple[int, int, int]:
        stage = next(index for index, kinds in enumerate(_STAGES) if kind in kinds)
        names = [column.name for column in self._schema.columns]
        position = names.index(name) if name in names else len(names)
        return stage, position, _STAGES[stage].index(kind)


def _create_anomaly(column: str, kind: str, what: str, rows: int) -> dict[str, Any]:
    return {"column": column, "kind": kind, "what": what, "rows": rows, "samples": [], "sample_rows": []}


def _hash_keys(keys: pl.Series) -> pl.DataFrame:
    known = keys.drop_nulls()
    return pl.DataFrame({"first": known.hash(seed=1), "second": known.hash(seed=2)})


def count_repeated(hashes: Sequence[pl.DataFrame]) -> int:
    """Return how many hashed keys equal an earlier one."""
    if not hashes:
        return 0
    first = np.sort(np.concatenate([frame["first"].to_numpy() for frame in hashes]))
    equal = np.unique(first[1:][first[1:] == first[:-1]])
    if not len(equal):
        return 0
    found = pl.concat([frame.filter(pl.col("first").is_in(pl.Series(equal).implode())) for frame in hashes])
    return found.height - found.n_unique()
