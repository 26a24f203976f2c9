"""Frames of Polars, pandas and Arrow as Arrow IPC with compressed columns; each consumer selects the library."""

import re
import struct
from typing import Any, BinaryIO, get_args

from tidemill.errors import DataError, MissingExtra

_FRAME_TYPES = {("polars", "DataFrame"), ("pandas", "DataFrame"), ("pandas", "Series"), ("pyarrow", "Table")}
_LIBRARY_KEY = b"tidemill.made_by"
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
_MAX_COLUMNS = 200


class FrameCodec:
    """Frames of Polars, pandas (with their index) and Arrow; each library is imported only when it is needed.

    Without a library in the annotation, a frame is read as the type that was written. Polars and Arrow read a named
    index of pandas as a column, and ignore an unnamed one.
    """

    kind = "frame"

    def accepts(self, value: Any) -> bool:
        return _get_type_name(type(value)) in _FRAME_TYPES

    def write(self, value: Any, sink: BinaryIO) -> None:
        """Write a frame; raise `DataError` for a column without an Arrow type."""
        try:
            if _get_type_name(type(value))[0] == "polars":
                _write_polars(value, sink)
            else:
                _write_arrow(value, sink)
        except OSError:
            raise
        except Exception as error:
            if not isinstance(error, ValueError | TypeError) and _get_type_name(type(error))[0] != "polars":
                raise
            raise DataError(
                f"a frame cannot be stored: {str(error).partition(chr(10))[0]}",
                "use unique column names, and one Arrow type for each column: numbers, text, times, lists or structs",
            ) from error

    def read(self, source: BinaryIO, annotation: Any) -> Any:
        library, name = _find_requested_type(annotation)
        written_type = _read_written_type(source)
        if library not in ("polars", "pandas", "pyarrow"):
            library, name = (written_type or "polars DataFrame").split(" ")[:2]
        if library == "polars":
            import polars as pl

            frame = pl.read_ipc(source)
            return frame.drop(_list_unnamed(frame.columns, written_type))
        pa = _import_pyarrow()
        table = pa.ipc.open_file(source).read_all()
        table = table.replace_schema_metadata(
            {key: text for key, text in (table.schema.metadata or {}).items() if key != _LIBRARY_KEY} or None
        )
        if library == "pandas":
            return _to_pandas(table.to_pandas(), written_type, name)
        return table.drop_columns(_list_unnamed(table.column_names, written_type))

    def summary(self, value: Any) -> dict[str, Any]:
        """Return the rows and the columns with their types; for a wide frame, the first columns and their number."""
        library, name = _get_type_name(type(value))
        if library == "pyarrow":
            rows, kinds = value.num_rows, {field.name: str(field.type) for field in value.schema}
        elif library == "polars":
            rows, kinds = value.height, {column: str(kind) for column, kind in value.schema.items()}
        elif name == "Series":
            rows, kinds = len(value), {str(value.name): str(value.dtype)}
        else:
            rows, kinds = len(value), {str(column): str(kind) for column, kind in value.dtypes.items()}
        first = dict(list(kinds.items())[:_MAX_COLUMNS])
        return {"rows": rows, "columns": first} | ({"width": len(kinds)} if len(kinds) > _MAX_COLUMNS else {})


def _write_polars(frame: Any, sink: BinaryIO) -> None:
    import polars as pl

    # The memory below a null, or of filtered rows, is not part of the value.
    columns = [
        pl.when(pl.col(name).is_not_null()).then(pl.col(name).fill_null("" if kind == pl.String else b"")).alias(name)
        if kind in (pl.String, pl.Binary) and frame[name].null_count()
        else pl.col(name).gather(pl.int_range(frame.height))
        for name, kind in frame.schema.items()
    ]
    if frame.width:
        frame = frame.select(columns).rechunk()
    frame.write_ipc(sink, compression="zstd", compat_level=pl.CompatLevel.oldest())


def _write_arrow(value: Any, sink: BinaryIO) -> None:
    pa = _import_pyarrow()
    library, name = _get_type_name(type(value))
    written_type = f"{library} {name}"
    if name == "Series":
        written_type += " unnamed" if value.name is None else ""
        value = value.to_frame("value" if value.name is None else value.name)
    if library == "pandas" and len(set(map(type, value.columns))) > 1:
        raise TypeError("its column names have different types")
    table = pa.Table.from_pandas(value) if library == "pandas" else value.combine_chunks()
    schema = table.schema.with_metadata((table.schema.metadata or {}) | {_LIBRARY_KEY: written_type.encode()})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        table = table.replace_schema_metadata(schema.metadata)
        if table.num_rows:
            writer.write_table(table)
        else:
            # Without rows, write_table would write no batch, and the categories would be lost.
            writer.write_batch(
                pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=schema)
            )


def _import_pyarrow() -> Any:
    """Return PyArrow, which frames of pandas and Arrow need; frames of Polars do not."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra("pyarrow", "pandas") from None
    return pyarrow


def _to_pandas(frame: Any, written_type: str, name: str) -> Any:
    if name != "Series":
        return frame
    if frame.shape[1] != 1:
        raise TypeError(f"it has {frame.shape[1]} columns, but a Series has one")
    return frame.iloc[:, 0].rename(None) if written_type.endswith(" unnamed") else frame.iloc[:, 0]


def _list_unnamed(columns: list[str], written_type: str) -> list[str]:
    return [column for column in columns if written_type.startswith("pandas") and _UNNAMED_INDEX.fullmatch(column)]


def _read_written_type(source: BinaryIO) -> str:
    """Return the library and type that wrote an Arrow IPC file, such as "pandas DataFrame"; "" for Polars."""
    start = source.read(16)
    length = struct.unpack("<i", start[12:16])[0] if len(start) == 16 else 0
    if _LIBRARY_KEY not in source.read(max(0, length)):
        source.seek(0)
        return ""
    source.seek(0)
    metadata = _import_pyarrow().ipc.open_file(source).schema.metadata or {}
    source.seek(0)
    return str(metadata.get(_LIBRARY_KEY, b"").decode())


def _find_requested_type(annotation: Any) -> tuple[str, str]:
    """Return the library and the type name of the frame in an annotation, which may be a union."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and _get_type_name(part) in _FRAME_TYPES:
            return _get_type_name(part)
    return "", ""


def _get_type_name(kind: type) -> tuple[str, str]:
    return kind.__module__.partition(".")[0], kind.__name__
