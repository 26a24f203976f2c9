"""Declares the inputs of an adopted model from sample rows; writes and reads the sample rows of a package."""

import msgspec
import polars as pl

from tidemill.core.model import Input, Model
from tidemill.core.schema import ColumnType
from tidemill.data.rows import RowReader
from tidemill.data.types import column_type
from tidemill.errors import DataError
from tidemill.models.file_info import ModelFileInfo

SAMPLES = "samples.json"
_MAX_SAMPLES = 100
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def declare_inputs(rows: pl.DataFrame, info: ModelFileInfo) -> tuple[Input, ...]:
    """Return the inputs of a model: their types from the sample rows, their order from the model file.

    A column of whole numbers is a `number`, since a few samples may have no fractions, unless the file declares it as
    an integer. LightGBM writes a space in a name as `_`: the input gets the name of the samples' column.

    Raises
    ------
    DataError
        if the columns of the samples are not the features of the model, or have an unsupported type.
    """
    features = info.names or tuple(rows.columns)
    columns = {name.replace(" ", "_"): name for name in rows.columns} | {name: name for name in rows.columns}
    inputs = [columns[name] for name in features if name in columns]
    missing = [name for name in features if name not in columns]
    extra = [name for name in rows.columns if name not in inputs]
    if missing or extra:
        parts = [f"the sample rows do not have its features {', '.join(missing)}"] if missing else []
        parts += [f"it has no features {', '.join(extra)}, which the sample rows have"] if extra else []
        raise DataError(
            f"the sample rows do not fit the model: {'; '.join(parts)}",
            "use rows with exactly the features of the model, and name the label column if there is one",
        )
    if info.width is not None and info.width != len(features):
        raise DataError(
            f"the model has {info.width} features, but the sample rows have {len(features)}: {', '.join(features)}",
            "use rows with exactly the features of the model, in its order",
        )
    texts = {columns[name] for name in info.texts if name in columns} if info.texts is not None else None
    integers = {columns[name] for name in info.integers if name in columns}
    return tuple(Input(name=name, type=_find_type(rows[name], texts, integers)) for name in inputs)


def _find_type(values: pl.Series, texts: set[str] | None, integers: set[str]) -> ColumnType:
    if texts is not None and values.name in texts:
        return "text"
    if values.null_count() == len(values):
        if texts is not None:
            return "number"
        raise DataError(f"column {values.name!r} is empty in every sample row", "add rows with a value in this column")
    kind = column_type(values.dtype)
    if kind == "nested" or (kind == "text" and values.dtype not in _TEXTS):
        raise DataError(f"column {values.name!r} is {values.dtype}, which a model cannot read", "remove the column")
    if texts is not None and kind in ("text", "time", "date"):
        raise DataError(
            f"column {values.name!r} of the sample rows is {kind}, but the model requires numbers",
            "use rows after the preprocessing of the model, or save the whole pipeline as the model",
        )
    return "number" if kind == "integer" and values.name not in integers else kind


def encode_samples(frame: pl.DataFrame) -> bytes:
    """Return the first 100 rows as JSON."""
    return msgspec.json.encode(frame.head(_MAX_SAMPLES).to_dicts())


def load_samples(model: Model) -> pl.DataFrame:
    """Return the sample rows of a package; an empty frame if it has none."""
    rows = msgspec.json.decode(model.files.get(SAMPLES, b"[]"), type=list[dict[str, object]])
    reader = RowReader(model.manifest.signature.inputs)
    return reader.read_frame(reader.read_json(rows)) if rows else pl.DataFrame()
