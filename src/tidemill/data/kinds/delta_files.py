"""The rows of the files of a Delta table, by the rules of its log: types, names, partitions and deleted rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from msgspec import json

from tidemill.data.reading.parquet_bounds import require_parquet_file
from tidemill.delta import LocalTable
from tidemill.errors import DataError

READER_FEATURES = frozenset(
    {
        *("columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"),
        *("typeWidening", "typeWidening-preview"),
    }
)
_NEWEST_READER = 3
_PHYSICAL = "delta.columnMapping.physicalName"
_INDEX = "\0index"


def require_readable(table: DeltaTable, source: str) -> None:
    """Raise `DataError` with the feature's name unless the rows of the table can be read without loss."""
    protocol = table.protocol()
    unknown = sorted(set(protocol.reader_features or ()) - READER_FEATURES)
    if protocol.min_reader_version > _NEWEST_READER:
        unknown.append(f"reader version {protocol.min_reader_version}")
    if unknown:
        raise DataError(
            f"the Delta table of source {source!r} needs {', '.join(unknown)}, which Tidemill cannot read",
            "remove the feature in the program that writes the table (ALTER TABLE … DROP FEATURE), or copy its rows "
            "into a table without it",
        )


def read_files(table: LocalTable, excluded: set[str]) -> pl.DataFrame:
    """Return the rows of the table's files, except those of the `excluded` paths, sorted by path.

    Column names, types and partition values are those of the log. Rows that a deletion vector removes are absent.
    """
    wanted = pl.Schema(table.schema())
    fields = {entry["name"]: entry for entry in json.decode(table.schema().to_json())["fields"]}
    files = sorted((uri, values) for uri, values in _list_partitions(table).items() if uri not in excluded)
    for uri, _ in files:
        if "://" not in uri:
            require_parquet_file(Path(uri))
    lazy_files = [pl.scan_parquet(uri, glob=False, hive_partitioning=False) for uri, _ in files]
    masks = _read_selection_vectors(table)
    frames = []
    for (uri, values), frame in zip(files, pl.collect_all(lazy_files), strict=True):
        kept = _apply_mask(frame, masks.get(uri))
        _require_mapped_names(table, fields, frame, values, uri)
        columns = [_build_column(fields[name], wanted[name], kept.schema, values) for name in wanted]
        # The index keeps the number of rows where every column is a constant.
        frames.append(kept.select(pl.int_range(pl.len()).alias(_INDEX), *columns).drop(_INDEX))
    return pl.concat(frames) if frames else wanted.to_frame()


def _list_partitions(table: LocalTable) -> dict[str, dict[str, pl.Series]]:
    """Return the partition values of each file, in the types of the schema."""
    actions = pl.DataFrame(table.get_add_actions())
    uris = table.file_uris()
    for uri, path in zip(uris, actions["path"], strict=True):
        assert unquote(uri).endswith(unquote(unquote(path))), "the files of the log and their paths differ in order"
    if "partition" not in actions.columns:
        return {uri: {} for uri in uris}
    values = actions["partition"].struct.unnest()
    return {uri: {column.name: column[index : index + 1] for column in values} for index, uri in enumerate(uris)}


def _read_selection_vectors(table: LocalTable) -> dict[str, pl.Series]:
    """Return, for each file with a deletion vector, which of its rows still exist."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return {}
    vectors = pl.DataFrame(table.deletion_vectors())
    paths = [_to_local_path(uri) for uri in vectors["filepath"]]
    return dict(zip(paths, vectors["selection_vector"], strict=True))


def _to_local_path(uri: str) -> str:
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def _apply_mask(frame: pl.DataFrame, mask: pl.Series | None) -> pl.DataFrame:
    """Return the rows that a mask keeps; rows after its end still exist."""
    if mask is None:
        return frame
    if len(mask) < frame.height:
        mask = mask.append(pl.repeat(value=True, n=frame.height - len(mask), dtype=pl.Boolean, eager=True))
    return frame.filter(mask)


def _require_mapped_names(
    table: DeltaTable,
    fields: Mapping[str, dict[str, Any]],
    frame: pl.DataFrame,
    partitions: Mapping[str, pl.Series],
    uri: str,
) -> None:
    """Raise `DataError` if the file of a table with columns mapped by id has names that only the ids can resolve."""
    if table.metadata().configuration.get("delta.columnMapping.mode") != "id":
        return
    expected = {_physical_name(entry) for name, entry in fields.items() if name not in partitions}
    absent, unknown = sorted(expected - set(frame.columns)), sorted(set(frame.columns) - expected)
    if absent and unknown:
        raise DataError(
            f"{uri} has no column {absent[0]!r} but {unknown[0]!r}: column mapping by id (columnMapping, mode 'id') of "
            "files that do not use the physical names cannot be read",
            "rewrite the files in the program that writes the table (REORG TABLE … APPLY (PURGE))",
        )


def _physical_name(entry: Mapping[str, Any]) -> str:
    """Return the name of a field in the data files."""
    name: str = entry.get("metadata", {}).get(_PHYSICAL) or entry["name"]
    return name


def _build_column(
    entry: Mapping[str, Any], wanted: pl.DataType, stored: pl.Schema, partitions: Mapping[str, pl.Series]
) -> pl.Expr:
    name, physical = entry["name"], _physical_name(entry)
    if name in partitions:
        return pl.lit(partitions[name][0], dtype=wanted).alias(name)
    if physical not in stored:
        return pl.lit(None, dtype=wanted).alias(name)
    return _convert(pl.col(physical), stored[physical], entry["type"], wanted).alias(name)


def _convert(values: pl.Expr, stored: pl.DataType, kind: Any, wanted: pl.DataType) -> pl.Expr:
    """Return values of a data file with the names and the type of the log; `kind` is the type in the log."""
    if stored == wanted:
        return values
    form = kind["type"] if isinstance(kind, dict) else ""
    if form == "struct" and isinstance(stored, pl.Struct) and isinstance(wanted, pl.Struct):
        return _convert_fields(values, stored, kind["fields"], wanted)
    if form in ("array", "map") and isinstance(stored, pl.List) and isinstance(wanted, pl.List):
        element = kind["elementType"] if form == "array" else _entry_type(kind)
        return values.list.eval(_convert(pl.element(), _dtype(stored.inner), element, _dtype(wanted.inner)))
    return values.cast(wanted)


def _convert_fields(
    values: pl.Expr, stored: pl.Struct, entries: Sequence[Mapping[str, Any]], wanted: pl.Struct
) -> pl.Expr:
    types = {inner.name: _dtype(inner.dtype) for inner in stored.fields}
    converted = []
    for entry, target in zip(entries, wanted.fields, strict=True):
        physical = _physical_name(entry)
        if physical in types:
            value = values.struct.field(physical)
            converted.append(_convert(value, types[physical], entry["type"], _dtype(target.dtype)).alias(entry["name"]))
        else:
            converted.append(pl.lit(None, dtype=target.dtype).alias(entry["name"]))
    return pl.when(values.is_not_null()).then(pl.struct(converted))


def _entry_type(kind: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type of the entries of a map: Polars reads a map as a list of structs."""
    return {
        "type": "struct",
        "fields": [{"name": "key", "type": kind["keyType"]}, {"name": "value", "type": kind["valueType"]}],
    }


def _dtype(kind: Any) -> pl.DataType:
    """Return a data type as an instance."""
    instance: pl.DataType = kind() if isinstance(kind, type) else kind
    return instance
