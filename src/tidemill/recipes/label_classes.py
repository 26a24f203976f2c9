"""The classes of labels at ingestion: closed once accepted rows have them, so that another spelling stops its batch."""

from collections.abc import Mapping

import polars as pl
from msgspec.json import encode
from msgspec.structs import replace

from tidemill.core.batch import Batch
from tidemill.core.check import SchemaEvidence, Verdict
from tidemill.core.columns import BATCH
from tidemill.core.resources import BooksReader, Sources, TableReader
from tidemill.core.schema import Schema
from tidemill.data.keys import to_class_names
from tidemill.data.spellings import Spellings, describe_spellings, find_spellings, suggest_setting, unify_spellings
from tidemill.errors import NotFound
from tidemill.registry.withdrawals import find_withdrawn

_LEAST_ROWS = 50
_MAX_CLASSES = 100
_SHOWN_CLASSES = 10

KnownClasses = Mapping[str, tuple[str, ...]]
"""The classes of each label column that accepted rows have."""


def find_known_classes(
    source: str, schema: Schema, sources: Sources, tables: TableReader, books: BooksReader, environment: str
) -> dict[str, tuple[str, ...]]:
    """Return the classes of the accepted rows of each label of a source: two or more, in at least 50 labelled rows.

    A boolean label has no entry: its type allows no other class.
    """
    found: dict[str, tuple[str, ...]] = {}
    booleans = {column.name for column in schema.columns if column.type == "boolean"}
    for label, spellings in sources.labels(source).items():
        if label in booleans and not spellings:
            continue
        withdrawn = list(find_withdrawn(books, environment))
        try:
            rows = tables.read(source, tables.version(source), [label, BATCH] if withdrawn else [label])
        except (NotFound, pl.exceptions.ColumnNotFoundError):
            continue
        if withdrawn:
            rows = rows.filter(~pl.col(BATCH).is_in(withdrawn))
        labels = rows[label].drop_nulls()
        # The names of the distinct values, because each ingestion reads the labels of all rows.
        distinct = labels if labels.dtype.is_nested() else labels.unique()
        classes = to_class_names(unify_spellings(distinct, spellings)).drop_nulls().unique().sort().to_list()
        if len(labels) >= _LEAST_ROWS and 2 <= len(classes) <= _MAX_CLASSES:
            found[label] = tuple(classes)
    return found


def close_labels(schema: Schema, known: KnownClasses) -> Schema:
    """Return a schema in which each label has its known classes as its domain, unless it has a domain already."""
    columns = tuple(
        replace(column, domain=known[column.name]) if column.name in known and column.domain is None else column
        for column in schema.columns
    )
    return replace(schema, columns=columns)


def explain_labels(
    verdict: Verdict, frame: pl.DataFrame, batch: Batch, known: KnownClasses, labels: Mapping[str, Spellings]
) -> Verdict:
    """Return a verdict whose reason names unknown classes of labels, or spellings of one class, with the cure."""
    unknown = {str(a["column"]) for a in verdict.read(SchemaEvidence).anomalies if a["kind"] == "outside domain"}
    for label in labels.keys() & unknown & known.keys():
        classes = to_class_names(frame[label]).drop_nulls().unique().sort()
        new = [name for name in classes if name not in known[label]]
        weighted = pl.Series(label, [*known[label], *known[label], *new], dtype=pl.String)
        alike = {other: used for other, used in find_spellings(weighted, labels[label]).items() if other in new}
        setting = suggest_setting(alike) if alike else _ask_meaning(new, known[label])
        cure = (
            f"if they are other spellings, add to [problem]: {setting}; if they are classes, accept them: "
            f"`tidemill data accept {batch.source} --reason …`"
        )
        verdict = replace(verdict, reason=f"{verdict.reason}; {cure}")
    if verdict.stops:
        return verdict
    for label, spellings in labels.items():
        found = find_spellings(frame[label], spellings) if label in frame.columns else {}
        if found:
            reason = f"{describe_spellings(label, found)}; add to [problem]: {suggest_setting(found)}"
            verdict = replace(verdict, outcome="warn", reason=reason)
    return verdict


def _ask_meaning(new: list[str], known: tuple[str, ...]) -> str:
    """Return the setting without its class, which a person has to choose: a guess could exchange the classes."""
    if not new:
        return ""
    shown = ", ".join(known[:_SHOWN_CLASSES]) + (", …" if len(known) > _SHOWN_CLASSES else "")
    return f"spellings = {{ {encode(new[0]).decode()} = … }}, where … is one of {shown}"
