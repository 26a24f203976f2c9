"""Frames as Arrow IPC, compressed by column: of Polars, pandas and Arrow, each read as its consumer asks."""

import re
import struct
from typing import Any, BinaryIO, get_args

from tidemill.errors import DataError, MissingExtra

_KINDS = {("polars", "DataFrame"), ("pandas", "DataFrame"), ("pandas", "Series"), ("pyarrow", "Table")}
_MADE_BY = b"tidemill.made_by"
_UNNAMED = re.compile(r"__index_level_\d+__")
_COLUMNS = 200


class FrameCodec:
    """Frames of Polars, pandas (with their index) and Arrow; none of these is imported before one is met.

    Where the annotation names none, a frame comes back as what it was. Polars and Arrow see a named index of pandas
    as a column, and an unnamed one not at all.
    """

    kind = "frame"

    def accepts(self, value: Any) -> bool:
        return _names(type(value)) in _KINDS

    def write(self, value: Any, sink: BinaryIO) -> None:
        """Raises `DataError` for a column that Arrow has no type for."""
        try:
            if _names(type(value))[0] == "polars":
                _write_polars(value, sink)
            else:
                _write_arrow(value, sink)
        except OSError:
            raise
        except Exception as wrong:
            if not isinstance(wrong, ValueError | TypeError) and _names(type(wrong))[0] != "polars":
                raise
            raise DataError(
                f"a frame cannot be kept: {str(wrong).partition(chr(10))[0]}",
                "give each column one name and one type that Arrow knows: numbers, text, times, lists, structs",
            ) from wrong

    def read(self, source: BinaryIO, annotation: Any) -> Any:
        library, name = _asked(annotation)
        made_by = _made_by(source)
        if library not in ("polars", "pandas", "pyarrow"):
            library, name = (made_by or "polars DataFrame").split(" ")[:2]
        if library == "polars":
            import polars as pl

            frame = pl.read_ipc(source)
            return frame.drop(_unnamed(frame.columns, made_by))
        pa = _pyarrow()
        table = pa.ipc.open_file(source).read_all()
        table = table.replace_schema_metadata(
            {key: text for key, text in (table.schema.metadata or {}).items() if key != _MADE_BY} or None
        )
        if library == "pandas":
            return _pandas(table.to_pandas(), made_by, name)
        return table.drop_columns(_unnamed(table.column_names, made_by))

    def summary(self, value: Any) -> dict[str, Any]:
        """Rows and columns, each with its type; of a very wide frame the first columns and how many there are."""
        library, name = _names(type(value))
        if library == "pyarrow":
            rows, kinds = value.num_rows, {field.name: str(field.type) for field in value.schema}
        elif library == "polars":
            rows, kinds = value.height, {column: str(kind) for column, kind in value.schema.items()}
        elif name == "Series":
            rows, kinds = len(value), {str(value.name): str(value.dtype)}
        else:
            rows, kinds = len(value), {str(column): str(kind) for column, kind in value.dtypes.items()}
        first = dict(list(kinds.items())[:_COLUMNS])
        return {"rows": rows, "columns": first} | ({"width": len(kinds)} if len(kinds) > _COLUMNS else {})


def _write_polars(frame: Any, sink: BinaryIO) -> None:
    import polars as pl

    # What stands in memory under a null, or of rows that were filtered out, is no part of the value.
    emptied = [
        pl.when(pl.col(name).is_not_null()).then(pl.col(name).fill_null("" if kind == pl.String else b"")).alias(name)
        if kind in (pl.String, pl.Binary) and frame[name].null_count()
        else pl.col(name).gather(pl.int_range(frame.height))
        for name, kind in frame.schema.items()
    ]
    if frame.width:
        frame = frame.select(emptied).rechunk()
    frame.write_ipc(sink, compression="zstd", compat_level=pl.CompatLevel.oldest())


def _write_arrow(value: Any, sink: BinaryIO) -> None:
    pa = _pyarrow()
    library, name = _names(type(value))
    made_by = f"{library} {name}"
    if name == "Series":
        made_by += " unnamed" if value.name is None else ""
        value = value.to_frame("value" if value.name is None else value.name)
    if library == "pandas" and len(set(map(type, value.columns))) > 1:
        raise TypeError("the names of its columns are of several types")
    table = pa.Table.from_pandas(value) if library == "pandas" else value.combine_chunks()
    schema = table.schema.with_metadata((table.schema.metadata or {}) | {_MADE_BY: made_by.encode()})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        table = table.replace_schema_metadata(schema.metadata)
        if table.num_rows:
            writer.write_table(table)
        else:
            # Of no rows it would write nothing, and forget which categories there are.
            writer.write_batch(
                pa.RecordBatch.from_arrays([one.combine_chunks() for one in table.columns], schema=schema)
            )


def _pyarrow() -> Any:
    """PyArrow, which frames of pandas and Arrow need; frames of Polars do without."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra("pyarrow", "pandas") from None
    return pyarrow


def _pandas(frame: Any, made_by: str, name: str) -> Any:
    if name != "Series":
        return frame
    if frame.shape[1] != 1:
        raise TypeError(f"it has {frame.shape[1]} columns, a Series has one")
    return frame.iloc[:, 0].rename(None) if made_by.endswith(" unnamed") else frame.iloc[:, 0]


def _unnamed(columns: list[str], made_by: str) -> list[str]:
    return [column for column in columns if made_by.startswith("pandas") and _UNNAMED.fullmatch(column)]


def _made_by(source: BinaryIO) -> str:
    """What made the frame in a file of Arrow IPC; the file's schema is read again by who reads it whole."""
    start = source.read(16)
    length = struct.unpack("<i", start[12:16])[0] if len(start) == 16 else 0
    if _MADE_BY not in source.read(max(0, length)):
        source.seek(0)
        return ""
    source.seek(0)
    metadata = _pyarrow().ipc.open_file(source).schema.metadata or {}
    source.seek(0)
    return str(metadata.get(_MADE_BY, b"").decode())


def _asked(annotation: Any) -> tuple[str, str]:
    """The library and the name of the frame that an annotation asks for, as it stands or in a union."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and _names(one) in _KINDS:
            return _names(one)
    return "", ""


def _names(kind: type) -> tuple[str, str]:
    return kind.__module__.partition(".")[0], kind.__name__
