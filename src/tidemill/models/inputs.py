"""The inputs of a model that was made elsewhere, declared from sample rows; and the samples that a package carries."""

import msgspec
import polars as pl

from tidemill.core.model import Input, Model
from tidemill.core.schema import ColumnType
from tidemill.data.rows import RowReader
from tidemill.data.types import column_type
from tidemill.errors import DataError
from tidemill.models.file_info import ModelFileInfo

SAMPLES = "samples.json"
_KEPT = 100
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def declare(rows: pl.DataFrame, told: ModelFileInfo) -> tuple[Input, ...]:
    """The inputs of a model: their types as its sample rows show them, their order as its file states it.

    A column of whole numbers is a `number`, as a few samples may show no fractions, unless the file states that it is
    an integer. LightGBM writes a space in a name as `_`: such a name is that of the samples' column.

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
    integers = {columns[name] for name in told.integers if name in columns}
    return tuple(Input(name=name, type=_type(rows[name], texts, integers)) for name in taken)


def _type(values: pl.Series, texts: set[str] | None, integers: set[str]) -> ColumnType:
    if texts is not None and values.name in texts:
        return "text"
    if values.null_count() == len(values):
        if texts is not None:
            return "number"
        raise DataError(f"column {values.name!r} is empty in every sample row", "give rows that show its type")
    kind = column_type(values.dtype)
    if kind == "nested" or (kind == "text" and values.dtype not in _TEXTS):
        raise DataError(f"column {values.name!r} holds {values.dtype}, which is no input of a model", "leave it out")
    if texts is not None and kind in ("text", "time", "date"):
        raise DataError(
            f"column {values.name!r} of the sample rows holds {kind}, and the model takes numbers there",
            "give the rows as the model takes them, after its own preparation; or save the whole pipeline",
        )
    return "number" if kind == "integer" and values.name not in integers else kind


def keep(frame: pl.DataFrame) -> bytes:
    """The first 100 rows as JSON."""
    return msgspec.json.encode(frame.head(_KEPT).to_dicts())


def samples(model: Model) -> pl.DataFrame:
    """The sample rows that a package carries; none gives an empty frame."""
    rows = msgspec.json.decode(model.files.get(SAMPLES, b"[]"), type=list[dict[str, object]])
    reader = RowReader(model.manifest.signature.inputs)
    return reader.read_frame(reader.read_json(rows)) if rows else pl.DataFrame()
