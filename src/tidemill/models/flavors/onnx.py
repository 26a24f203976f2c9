"""ONNX: a graph that ONNX Runtime computes; its input is one matrix, or one tensor for each column."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct, structs

from tidemill.core.model import Model, PredictionTask, Signature
from tidemill.data.keys import to_class_names
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, MissingExtra
from tidemill.models.file_info import ModelFileInfo
from tidemill.models.inputs import declare_inputs
from tidemill.models.predictions import Predictions, to_predictions

FILE = "model.onnx"
_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_INTEGERS = ("tensor(int64)", "tensor(int32)")
_FLOATS = ("tensor(float)", "tensor(double)")
_LABELS = (*_INTEGERS, "tensor(string)")
_TOLERANCE = 1e-5


class _Outputs(Struct, frozen=True):
    """The names of a graph's outputs: the label of a classifier, and the numbers (values or probabilities).

    `zipped` is set if the numbers are one {class: probability} for each row; `width` is the number of columns.
    """

    label: str | None
    numbers: str
    zipped: bool
    width: int | None


class ONNX:
    """A graph with its signature; threads can share it."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._reader = RowReader(self.signature.inputs)
        self._session = _open(model.files[FILE])
        self._outputs = _find_outputs(self._session)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Return the graph's labels or values, and its probabilities in the order of the signature's classes."""
        outputs = _run(self._session, self._reader.read_frame(frame))
        numbers = outputs[self._outputs.numbers]
        if self.signature.task == "regression":
            return Predictions(np.asarray(numbers, dtype=float).ravel().tolist(), None)
        if self._outputs.zipped:
            table = _unzip(numbers, self.signature.classes)
        else:
            table = np.asarray(numbers, dtype=float)
            table = table.ravel() if table.ndim == 2 and table.shape[1] == 1 else table
        predictions = to_predictions(self.signature, _check_probabilities(table, self.signature))
        if self._outputs.label is None:
            return predictions
        values = to_class_names(pl.Series(outputs[self._outputs.label].ravel().tolist())).to_list()
        if unknown := set(values) - set(self.signature.classes):
            raise DataError(
                f"the model predicts {', '.join(sorted(unknown))}, which is not among its classes "
                f"{', '.join(self.signature.classes)}",
                "register it again with its classes in the order of its probabilities",
            )
        return Predictions(values, predictions.probabilities)


def read_info(content: bytes, rows: pl.DataFrame) -> ModelFileInfo:
    """Return the inputs and outputs of a graph; it predicts one row where only its predictions contain the class names.

    Raises
    ------
    DataError
        if ONNX Runtime cannot read the graph, or its inputs or outputs do not fit a table.
    MissingExtra
        if ONNX Runtime is not installed.
    """
    session = _open(content)
    outputs = _find_outputs(session)
    inputs = session.get_inputs()
    if unsupported := [tensor.name for tensor in inputs if tensor.type not in _DTYPES]:
        raise DataError(
            f"the ONNX inputs {', '.join(unsupported)} have types that no table column has",
            "export the model with inputs of table columns",
        )
    texts = [tensor.name for tensor in inputs if tensor.type == "tensor(string)"]
    if _is_matrix(inputs, rows.columns):
        integers = tuple(rows.columns) if inputs[0].type in _INTEGERS else ()
        info = ModelFileInfo(width=_find_width(inputs[0]), texts=None if texts else (), integers=integers)
    else:
        names = tuple(tensor.name for tensor in inputs)
        integers = tuple(tensor.name for tensor in inputs if tensor.type in _INTEGERS)
        info = ModelFileInfo(names=names, width=len(inputs), texts=tuple(texts), integers=integers)
    task: PredictionTask | None = None
    if outputs.label is not None or outputs.zipped:
        task = "classification"
    elif outputs.width == 1:
        task = "regression"
    classes: tuple[str, ...] = ()
    if outputs.zipped:
        row = RowReader(declare_inputs(rows, info)).read_frame(rows.head(1))
        classes = _name_classes(_run(session, row)[outputs.numbers][0])
    count = len(classes) or (2 if outputs.width == 1 else outputs.width)
    return structs.replace(info, task=task, outputs=count, classes=classes)


def _open(content: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        raise DataError(
            f"ONNX Runtime cannot read the model: {str(error).splitlines()[0]}",
            "export it as one file, with an opset that the installed ONNX Runtime supports",
        ) from error


def _find_outputs(session: Any) -> _Outputs:
    tensors = session.get_outputs()
    zipped = next((tensor.name for tensor in tensors if tensor.type.startswith("seq(map(")), None)
    label = next((tensor.name for tensor in tensors if tensor.type in _LABELS), None)
    if zipped is not None:
        return _Outputs(label, zipped, True, None)
    floats = [tensor for tensor in tensors if tensor.type in _FLOATS and len(tensor.shape) <= 2]
    if len(floats) != 1:
        names = ", ".join(f"{tensor.name} {tensor.type}" for tensor in tensors)
        raise DataError(
            f"the outputs of the model are {names}, but exactly one float tensor of values or probabilities is needed",
            "export a classifier with its probabilities, or a regression with only its values",
        )
    return _Outputs(label, floats[0].name, False, _find_width(floats[0]))


def _find_width(tensor: Any) -> int | None:
    """Return the width of a tensor: 1 for a vector, None if the graph does not fix it."""
    if len(tensor.shape) != 2:
        return 1
    return tensor.shape[1] if isinstance(tensor.shape[1], int) else None


def _is_matrix(inputs: list[Any], names: list[str]) -> bool:
    """Return whether one input contains all columns; its name is then not the name of a column."""
    return len(inputs) == 1 and inputs[0].name not in names and len(inputs[0].shape) == 2


def _run(session: Any, table: pl.DataFrame) -> dict[str, Any]:
    inputs = session.get_inputs()
    if _is_matrix(inputs, table.columns):
        feeds = {inputs[0].name: np.column_stack([_to_tensor(values, inputs[0].type) for values in table])}
    else:
        feeds = {
            tensor.name: _to_tensor(values, tensor.type).reshape(-1, *[1] * (len(tensor.shape) - 1))
            for tensor, values in zip(inputs, table, strict=True)
        }
    try:
        names = [tensor.name for tensor in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:
        raise DataError(
            f"the model cannot predict these rows: {str(error).splitlines()[0]}", "send rows like its sample rows"
        ) from error


def _to_tensor(values: pl.Series, type_name: str) -> npt.NDArray[Any]:
    if type_name in _FLOATS and (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        return values.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(_DTYPES[type_name])
    if values.null_count():
        raise DataError(f"column {values.name!r} has missing values, which the model does not accept", "fill them")
    if type_name == "tensor(string)":
        return np.array(values.cast(pl.String).to_list(), dtype=object)
    if type_name in _INTEGERS and (values.dtype.is_integer() or values.dtype == pl.Boolean):
        return values.to_numpy().astype(_DTYPES[type_name])
    if type_name == "tensor(bool)" and values.dtype == pl.Boolean:
        return values.to_numpy()
    raise DataError(f"column {values.name!r} is {values.dtype}, but the model requires {type_name}", "send that type")


def _name_classes(row: dict[Any, float]) -> tuple[str, ...]:
    return tuple(to_class_names(pl.Series(list(row))).to_list())


def _unzip(rows: list[dict[Any, float]], classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Convert one {class: probability} for each row to a table, in the order of the signature's classes."""
    if rows and set(_name_classes(rows[0])) != set(classes):
        raise DataError(
            f"the model predicts the classes {', '.join(_name_classes(rows[0]))}, but its signature has "
            f"{', '.join(classes)}",
            f"register it with the classes {','.join(_name_classes(rows[0]))}",
        )
    named = [dict(zip(_name_classes(row), row.values(), strict=True)) for row in rows[:1]]
    order = [list(named[0]).index(name) for name in classes] if named else []
    return np.array([[list(row.values())[index] for index in order] for row in rows], dtype=float)


def _check_probabilities(table: npt.NDArray[np.float64], signature: Signature) -> npt.NDArray[np.float64]:
    width = 2 if table.ndim == 1 else table.shape[1]
    if width != len(signature.classes):
        raise DataError(
            f"the model predicts {width} probabilities, but its signature has {len(signature.classes)} classes",
            "register it again",
        )
    if table.size and not (table.min() >= -_TOLERANCE and table.max() <= 1 + _TOLERANCE):
        raise DataError("the outputs of the model are not probabilities", "export it with its softmax or sigmoid")
    return table
