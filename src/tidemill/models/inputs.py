"""The rows that a model takes: brought into the order and types of its signature, and kept as samples."""

import msgspec
import polars as pl

from tidemill.core.model import Input, Model, Signature
from tidemill.core.schema import ColumnType
from tidemill.data.encoding import column_type
from tidemill.data.frame import from_rows
from tidemill.errors import DataError
from tidemill.models.file_info import ModelFileInfo

SAMPLES = "samples.json"
_KEPT = 100


def declare(rows: pl.DataFrame, told: ModelFileInfo) -> tuple[Input, ...]:
    """The inputs of a model, as its sample rows show their types, in the order that its file tells.

    LightGBM writes a space in a name as `_`: such a name is that of the samples' column.

    Raises
    ------
    DataError
        if the samples' columns are not the model's features, or hold what it cannot take.
    """
    own = told.names or tuple(rows.columns)
    columns = {name.replace(" ", "_"): name for name in rows.columns} | {name: name for name in rows.columns}
    taken = [columns[name] for name in own if name in columns]
    missing = [name for name in own if name not in columns]
    needless = [name for name in rows.columns if name not in taken]
    if missing or needless:
        parts = [f"the sample rows do not have its features {', '.join(missing)}"] if missing else []
        parts += [f"it has no features {', '.join(needless)}, which the sample rows have"] if needless else []
        raise DataError(
            f"the sample rows do not fit the model: {'; '.join(parts)}",
            "give rows with exactly the columns that the model takes, and name the label if it is among them",
        )
    if told.width is not None and told.width != len(own):
        raise DataError(
            f"the model takes {told.width} columns, and the sample rows have {len(own)}: {', '.join(own)}",
            "give rows with exactly the columns that the model takes, in its order",
        )
    texts = {columns[name] for name in told.texts if name in columns} if told.texts is not None else None
    return tuple(Input(name=name, type=_type(rows[name], texts)) for name in taken)


def _type(values: pl.Series, texts: set[str] | None) -> ColumnType:
    if texts is not None and values.name in texts:
        return "text"
    if values.null_count() == len(values):
        if texts is not None:
            return "number"
        raise DataError(f"column {values.name!r} is empty in every sample row", "give rows that show its type")
    kind = column_type(values.dtype)
    if values.dtype.is_nested() or (kind == "text" and values.dtype not in _TEXTS):
        raise DataError(f"column {values.name!r} holds {values.dtype}, which is no input of a model", "leave it out")
    if texts is not None and kind in ("text", "time", "date"):
        raise DataError(
            f"column {values.name!r} of the sample rows holds {kind}, and the model takes numbers there",
            "give the rows as the model takes them, after its own preparation; or save the whole pipeline",
        )
    return kind


def arrange(signature: Signature, frame: pl.DataFrame) -> pl.DataFrame:
    """The inputs of these rows, in the signature's order and types; an absent column is null.

    An `integer` column that comes with fractions keeps them: a few samples may have shown whole numbers only.

    Raises
    ------
    DataError
        if a column holds what its type does not allow.
    """
    return pl.DataFrame([_arrange_column(wanted, frame) for wanted in signature.inputs])


def keep(frame: pl.DataFrame) -> bytes:
    """The first 100 rows as JSON."""
    return msgspec.json.encode(frame.head(_KEPT).to_dicts())


def samples(model: Model) -> pl.DataFrame:
    """The sample rows that a package carries; none gives an empty frame."""
    rows = msgspec.json.decode(model.files.get(SAMPLES, b"[]"), type=list[dict[str, object]])
    return arrange(model.manifest.signature, from_rows(rows)) if rows else pl.DataFrame()


def _arrange_column(wanted: Input, frame: pl.DataFrame) -> pl.Series:
    if wanted.name not in frame.columns:
        return pl.Series(wanted.name, [None] * frame.height, dtype=_KINDS[wanted.type])
    values = frame[wanted.name]
    try:
        if wanted.type in ("time", "date") and values.dtype != pl.String:
            return values
        if wanted.type in ("time", "date"):
            return values.str.to_datetime() if wanted.type == "time" else values.str.to_date()
        if wanted.type == "integer" and values.dtype.is_float() and not (values.drop_nulls() % 1 == 0).all():
            return values
        return values.cast(_KINDS[wanted.type])
    except pl.exceptions.PolarsError:
        raise DataError(
            f"column {wanted.name!r} should hold {wanted.type}, but holds {values.dtype} that cannot be read so",
            "send values of the type in the model's signature",
        ) from None


_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_KINDS: dict[str, type[pl.DataType]] = {
    "boolean": pl.Boolean,
    "integer": pl.Int64,
    "number": pl.Float64,
    "text": pl.String,
    "time": pl.Datetime,
    "date": pl.Date,
}
