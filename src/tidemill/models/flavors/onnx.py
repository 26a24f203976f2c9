"""ONNX: a graph that ONNX Runtime computes; all inputs in one matrix, or one input for each column."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct, structs

from tidemill.core.model import Model, Signature, Task
from tidemill.data.keys import as_classes
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, MissingExtra
from tidemill.models.file_info import ModelFileInfo
from tidemill.models.inputs import declare
from tidemill.models.predictions import Predictions, to_predictions

FILE = "model.onnx"
_KINDS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_INTEGERS = ("tensor(int64)", "tensor(int32)")
_SHARES = ("tensor(float)", "tensor(double)")
_LABELS = (*_INTEGERS, "tensor(string)")
_SLACK = 1e-5


class _Outputs(Struct, frozen=True):
    """Where a graph gives what: the label (of a classifier), and the numbers, be they values or probabilities."""

    label: str | None
    numbers: str
    zipped: bool
    width: int | None


class ONNX:
    """A graph that answers for rows; `predict` may be called from many threads."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._reader = RowReader(self.signature.inputs)
        self._session = _open(model.files[FILE])
        self._outputs = _outputs(self._session)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """The graph's own labels or values, and its probabilities in the order of the signature's classes."""
        given = _run(self._session, self._reader.read_frame(frame))
        numbers = given[self._outputs.numbers]
        if self.signature.task == "regression":
            return Predictions(np.asarray(numbers, dtype=float).ravel().tolist(), None)
        if self._outputs.zipped:
            table = _unzip(numbers, self.signature.classes)
        else:
            table = np.asarray(numbers, dtype=float)
            table = table.ravel() if table.ndim == 2 and table.shape[1] == 1 else table
        said = to_predictions(self.signature, _checked(table, self.signature))
        if self._outputs.label is None:
            return said
        values = as_classes(pl.Series(given[self._outputs.label].ravel().tolist())).to_list()
        if strange := set(values) - set(self.signature.classes):
            raise DataError(
                f"the model answers {', '.join(sorted(strange))}, which is not among its classes "
                f"{', '.join(self.signature.classes)}",
                "register it again with its classes in the order of its probabilities",
            )
        return Predictions(values, said.probabilities)


def read_info(content: bytes, rows: pl.DataFrame) -> ModelFileInfo:
    """What a graph tells of its inputs and outputs; the names of classes that it zips are found by asking it one row.

    Raises
    ------
    DataError
        if ONNX Runtime cannot read it, or its inputs or outputs are of a kind that no table has.
    MissingExtra
        if ONNX Runtime is not installed.
    """
    session = _open(content)
    outputs = _outputs(session)
    inputs = session.get_inputs()
    if strange := [each.name for each in inputs if each.type not in _KINDS]:
        raise DataError(f"the ONNX inputs {', '.join(strange)} are no columns of a table", "export it on a table")
    words = [each.name for each in inputs if each.type == "tensor(string)"]
    if _is_matrix(inputs, rows.columns):
        integers = tuple(rows.columns) if inputs[0].type in _INTEGERS else ()
        told = ModelFileInfo(width=_columns(inputs[0]), texts=None if words else (), integers=integers)
    else:
        names = tuple(each.name for each in inputs)
        integers = tuple(each.name for each in inputs if each.type in _INTEGERS)
        told = ModelFileInfo(names=names, width=len(inputs), texts=tuple(words), integers=integers)
    task: Task | None = None
    if outputs.label is not None or outputs.zipped:
        task = "classification"
    elif outputs.width == 1:
        task = "regression"
    classes: tuple[str, ...] = ()
    if outputs.zipped:
        row = RowReader(declare(rows, told)).read_frame(rows.head(1))
        classes = _names(_run(session, row)[outputs.numbers][0])
    count = len(classes) or (2 if outputs.width == 1 else outputs.width)
    return structs.replace(told, task=task, outputs=count, classes=classes)


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
    except Exception as wrong:
        said = str(wrong).splitlines()[0]
        raise DataError(
            f"ONNX Runtime cannot read the model: {said}", "export it as one file, with an opset that it knows"
        ) from wrong


def _outputs(session: Any) -> _Outputs:
    given = session.get_outputs()
    zipped = next((each.name for each in given if each.type.startswith("seq(map(")), None)
    label = next((each.name for each in given if each.type in _LABELS), None)
    if zipped is not None:
        return _Outputs(label, zipped, True, None)
    shares = [each for each in given if each.type in _SHARES and len(each.shape) <= 2]
    if len(shares) != 1:
        found = ", ".join(f"{each.name} {each.type}" for each in given)
        raise DataError(
            f"the model's outputs are {found}: one float tensor of values or probabilities is needed",
            "export a classifier with its probabilities, a regression with its values alone",
        )
    return _Outputs(label, shares[0].name, False, _columns(shares[0]))


def _columns(place: Any) -> int | None:
    """The width of a tensor: 1 for a vector, None where the graph leaves it open."""
    if len(place.shape) != 2:
        return 1
    return place.shape[1] if isinstance(place.shape[1], int) else None


def _is_matrix(inputs: list[Any], names: list[str]) -> bool:
    """Whether all columns go into one input, which then is not called as one of them."""
    return len(inputs) == 1 and inputs[0].name not in names and len(inputs[0].shape) == 2


def _run(session: Any, table: pl.DataFrame) -> dict[str, Any]:
    wanted = session.get_inputs()
    if _is_matrix(wanted, table.columns):
        feeds = {wanted[0].name: np.column_stack([_tensor(values, wanted[0].type) for values in table])}
    else:
        feeds = {
            each.name: _tensor(values, each.type).reshape(-1, *[1] * (len(each.shape) - 1))
            for each, values in zip(wanted, table, strict=True)
        }
    try:
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as wrong:
        said = str(wrong).splitlines()[0]
        raise DataError(f"the model cannot answer for these rows: {said}", "send rows like its samples") from wrong


def _tensor(values: pl.Series, kind: str) -> npt.NDArray[Any]:
    if kind in _SHARES and (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        return values.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(_KINDS[kind])
    if values.null_count():
        raise DataError(f"column {values.name!r} has missing values, and the model takes none", "fill them")
    if kind == "tensor(string)":
        return np.array(values.cast(pl.String).to_list(), dtype=object)
    if kind in _INTEGERS and (values.dtype.is_integer() or values.dtype == pl.Boolean):
        return values.to_numpy().astype(_KINDS[kind])
    if kind == "tensor(bool)" and values.dtype == pl.Boolean:
        return values.to_numpy()
    raise DataError(f"column {values.name!r} holds {values.dtype}, and the model takes a {kind}", "send that type")


def _names(row: dict[Any, float]) -> tuple[str, ...]:
    return tuple(as_classes(pl.Series(list(row))).to_list())


def _unzip(rows: list[dict[Any, float]], classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """The table of what a graph gives as one {class: probability} for each row."""
    if rows and set(_names(rows[0])) != set(classes):
        raise DataError(
            f"the model knows the classes {', '.join(_names(rows[0]))}, but its signature says {', '.join(classes)}",
            f"register it with the classes {','.join(_names(rows[0]))}",
        )
    named = [dict(zip(_names(row), row.values(), strict=True)) for row in rows[:1]]
    order = [list(named[0]).index(name) for name in classes] if named else []
    return np.array([[list(row.values())[place] for place in order] for row in rows], dtype=float)


def _checked(table: npt.NDArray[np.float64], signature: Signature) -> npt.NDArray[np.float64]:
    width = 2 if table.ndim == 1 else table.shape[1]
    if width != len(signature.classes):
        raise DataError(
            f"the model gives {width} probabilities, but has {len(signature.classes)} classes", "register it again"
        )
    if table.size and not (table.min() >= -_SLACK and table.max() <= 1 + _SLACK):
        raise DataError("the model gives numbers that are no probabilities", "export it with its softmax or sigmoid")
    return table
