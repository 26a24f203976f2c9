"""Batches that are too large to be read at once: judged and appended in parts, with the same verdict and rows."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.inference import infer_schema, widen_schema
from tidemill.checks.table import convert_to_schema
from tidemill.checks.table_parts import TableParts
from tidemill.core.batch import Batch
from tidemill.core.check import Verdict
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.frame import add_columns
from tidemill.data.identity_parts import PartNames
from tidemill.data.keys import count_values
from tidemill.data.spellings import Spellings
from tidemill.errors import Unreadable
from tidemill.recipes.label_classes import KnownClasses, explain_labels

_MOST_CLASSES = 10_000
_MOST_BAD_ROWS = 100_000
_MOST_RANKS = 100

OpenParts = Callable[[], Iterator[pl.DataFrame]]
"""Iterates over the parts of a batch; it can be called again."""


class LargeBatch(Struct, frozen=True, kw_only=True):
    """A batch in parts, with its verdict, its bad rows, and the names of its rows."""

    batch: Batch
    open_parts: OpenParts
    schema: Schema
    names: PartNames
    verdict: Verdict
    bad: pl.DataFrame

    def iterate(self, add_origin: Callable[[pl.DataFrame], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the rows of an accepted batch as they are stored; `add_origin` adds the columns of their origin."""
        for part in self.open_parts():
            rows = convert_to_schema(part, self.schema)
            yield add_origin(add_columns(rows, [self.names.name(rows)]))


def judge_large_batch(
    batch: Batch,
    open_parts: OpenParts,
    schema: Schema,
    definition: Source,
    known: KnownClasses,
    labels: Mapping[str, Spellings],
) -> LargeBatch:
    """Judge a batch in parts.

    Raises
    ------
    Unreadable
        if the batch cannot be read, or has the first values of a column of its schema.
    """
    check = TableParts(batch.id, schema, definition, batch.known_at)
    classes: dict[str, pl.DataFrame] = {}
    bad: list[pl.DataFrame] = []
    kept = 0
    for part in open_parts():
        _require_typed(part, schema, batch)
        rows = check.add(part).head(_MOST_BAD_ROWS - kept)
        if rows.height or not bad:
            bad.append(rows)
            kept += rows.height
        for label in labels:
            if label in part.columns:
                _count_classes(classes, label, part[label])
    verdict = explain_labels(check.finish(), _to_labels(classes), batch, known, labels)
    names = PartNames(definition.key, batch.path)
    if not verdict.stops:
        while not names.counted:
            for part in open_parts():
                names.add(convert_to_schema(part, schema))
            names.finish()
    return LargeBatch(
        batch=batch,
        open_parts=open_parts,
        schema=schema,
        names=names,
        verdict=verdict,
        bad=pl.concat(bad, how="diagonal_relaxed") if bad else pl.DataFrame(),
    )


def _require_typed(part: pl.DataFrame, schema: Schema, batch: Batch) -> None:
    """Raise if a part has values of a column that had none so far: its type and limits are those of all its values."""
    for column in schema.columns:
        if column.type == "empty" and column.name in part.columns and part[column.name].null_count() < part.height:
            raise Unreadable(
                f"{batch.path} is too large to be read at once, and has the first values of column {column.name!r}",
                f"give the column a type in the schema file of source {batch.source!r}, or split the file",
            )


def _count_classes(classes: dict[str, pl.DataFrame], label: str, values: pl.Series) -> None:
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        return
    counts = count_values(values)
    if label in classes:
        counts = (
            pl.concat([classes[label], counts], how="vertical_relaxed").group_by("value").agg(pl.col("count").sum())
        )
    classes[label] = counts.head(_MOST_CLASSES)


def _to_labels(classes: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return rows with the classes of each label, a more frequent one more often."""
    columns = []
    for label, counts in classes.items():
        ranked = counts.with_columns(pl.col("count").rank("dense").cast(pl.Int64).clip(upper_bound=_MOST_RANKS))
        repeated = ranked.select(pl.col("value").repeat_by("count").explode())["value"]
        columns.append(repeated.alias(label).to_frame())
    return pl.concat(columns, how="horizontal") if columns else pl.DataFrame()


def infer_from_parts(
    open_parts: OpenParts, source: str, definition: Source, times: tuple[str, ...], arrived: datetime
) -> Schema:
    """Infer a schema from the first part of a batch, and widen it as far as the others need."""
    schema = None
    for part in open_parts():
        if schema is None:
            schema = infer_schema(part, source, definition.key, times=times, later=definition.later)
        else:
            schema = replace(widen_schema(schema, part, definition, arrived), version=schema.version)
    if schema is None:
        raise Unreadable(f"source {source!r} has no rows yet", "wait for the first batch, or add a schema file")
    return schema
