"""Adopts a model that was trained outside Tidemill: packages its file with a signature from sample rows.

Adoption never loads a pickle. It reads the formats without code; ONNX Runtime predicts the sample rows with a graph,
which shows that they fit.
"""

from pathlib import Path

import numpy as np
import polars as pl
from msgspec import Struct, structs

from tidemill.core.feature import FeatureSet
from tidemill.core.model import Manifest, Model, PredictionTask, Signature
from tidemill.data.keys import to_class_names
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, InputError
from tidemill.models import pickles
from tidemill.models.adopting import note_tried
from tidemill.models.environment import list_versions
from tidemill.models.file_info import ModelFileInfo
from tidemill.models.flavors import BUILT_IN, lightgbm_raw, mlflow, onnx
from tidemill.models.flavors import joblib as joblib_flavor
from tidemill.models.formats import Format, detect_format
from tidemill.models.inputs import SAMPLES, declare_inputs, encode_samples
from tidemill.models.scanner import scan_pickle

_FILES: dict[Format, str] = {
    "lightgbm-raw": lightgbm_raw.FILE,
    "joblib": joblib_flavor.FILE,
    "onnx": onnx.FILE,
}
_LIBRARIES: dict[Format, tuple[str, ...]] = {
    "lightgbm-raw": ("lightgbm", "numpy"),
    "joblib": ("scikit-learn", "joblib", "numpy"),
    "onnx": ("onnxruntime", "numpy"),
}


class _ModelSource(Struct, frozen=True):
    """The model at a path: the files to pack, their flavor, and the format and content of the model file."""

    files: dict[str, bytes]
    flavor: str
    format: Format
    content: bytes


def adopt(
    path: Path,
    samples: pl.DataFrame,
    *,
    name: str,
    task: PredictionTask | None = None,
    classes: tuple[str, ...] = (),
    label: str = "",
    trusted: bool = False,
) -> Model:
    """Return the package of a model file (joblib, LightGBM text, ONNX) or of an MLflow directory.

    Parameters
    ----------
    samples
        Input rows of the model, of which 100 are kept; a `label` column is removed.
    task, classes
        The task and the classes, if the file does not contain them; the classes in the order of its probabilities.
    trusted
        Whether the user trusts a pickle. An untrusted pickle is packed, but never loaded.

    Raises
    ------
    DataError
        if the file is missing, incomplete or of unknown format, or the sample rows do not fit the model.
    InputError
        if the task or the classes are unknown, or the arguments contradict the file.
    MissingExtra
        if the file is ONNX and ONNX Runtime is not installed.
    """
    rows = samples.drop(label, strict=False) if label else samples
    if rows.is_empty() or not rows.width:
        raise DataError("there are no sample rows", "add input rows of the model")
    source = _read_source(path)
    labels = samples[label] if label in samples.columns else None
    info = _read_info(source, rows)
    resolved_task = _resolve_task(info, task, classes, labels)
    signature = Signature(
        inputs=declare_inputs(rows, info),
        task=resolved_task,
        classes=_resolve_classes(info, classes, labels) if resolved_task == "classification" else (),
    )
    inputs = RowReader(signature.inputs).read_frame(rows)
    model = Model(
        manifest=Manifest(
            name=name,
            flavor=source.flavor,
            signature=signature,
            features=FeatureSet(request=tuple(inputs.columns)),
            environment=list_versions(*_LIBRARIES[source.format]) | info.versions,
            data={"adopted": _describe_origin(path, source, info)},
            trusted=trusted if source.format == "joblib" else True,
        ),
        files=source.files | {SAMPLES: encode_samples(inputs)},
    )
    if source.format == "onnx":
        _check_class_order(model, inputs)
    note_tried(model)  # a file that ends its reader would have ended this process
    return model


def _read_source(path: Path) -> _ModelSource:
    if not path.exists():
        raise DataError(f"there is no model at {path}", "check the path")
    if path.is_file():
        content = path.read_bytes()
        file_format = detect_format(content, str(path))
        if file_format == "lightgbm-raw":
            # Git may write the line ends of Windows: the sizes of the trees, which the file names, do not fit then.
            content = content.replace(b"\r\n", b"\n")
        return _ModelSource({_FILES[file_format]: content}, file_format, file_format, content)
    if not (path / "MLmodel").is_file():
        raise DataError(f"{path} is a directory without an MLmodel file", "use a model file or an MLflow directory")
    files = {
        mlflow.ROOT + file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }
    content = mlflow.read_model_file(files)
    return _ModelSource(files, "mlflow", detect_format(content, f"the model in {path}"), content)


def _read_info(source: _ModelSource, rows: pl.DataFrame) -> ModelFileInfo:
    if source.format == "lightgbm-raw":
        info = lightgbm_raw.read_info(source.content)
    elif source.format == "onnx":
        info = onnx.read_info(source.content, rows)
    else:
        info = pickles.read_info(source.content)
        if missing := [path for path in info.imports if path.startswith("__main__.")]:
            raise DataError(
                f"the model needs {', '.join(missing)}, which a notebook defined and which cannot be imported",
                "move it into a module, install the module, and save the model again",
            )
    if source.flavor != "mlflow":
        return info
    names = info.names or mlflow.read_input_names(source.files)
    return structs.replace(info, names=names, versions=info.versions | mlflow.read_versions(source.files))


def _resolve_task(
    info: ModelFileInfo, task: PredictionTask | None, classes: tuple[str, ...], labels: pl.Series | None
) -> PredictionTask:
    if task is not None and info.task is not None and task != info.task:
        raise InputError(f"the task of the model is {info.task}, not {task}", "remove the task, or correct it")
    has_class_labels = labels is not None and (labels.dtype == pl.String or labels.dtype == pl.Boolean)
    guess: PredictionTask | None = "classification" if classes or has_class_labels else None
    if resolved := task or info.task or guess:
        if resolved == "regression" and classes:
            raise InputError("a regression has no classes", "remove the classes, or correct the task")
        return resolved
    raise InputError(
        "the model file does not contain its task",
        "set task = classification with its classes in the order of their probabilities, or task = regression",
    )


def _resolve_classes(info: ModelFileInfo, classes: tuple[str, ...], labels: pl.Series | None) -> tuple[str, ...]:
    """Return the classes of the file, of the arguments, or of the samples' labels if these have all classes."""
    if info.classes:
        if classes and set(classes) != set(info.classes):
            raise InputError(
                f"the model has the classes {', '.join(info.classes)}, not {', '.join(classes)}",
                "remove the classes, or correct them",
            )
        return classes or info.classes
    seen = tuple(to_class_names(labels.drop_nulls().unique().sort()).to_list()) if labels is not None else ()
    count = info.outputs
    if classes:
        if count not in (None, len(classes)) or len(set(classes)) != len(classes):
            raise InputError(f"the model has {count or 'different'} classes, not {', '.join(classes)}", "correct them")
        return classes
    if len(seen) > 1 and count in (None, len(seen)):
        return seen
    numbered = tuple(str(index) for index in range(count or 0))
    if numbered and set(seen) <= set(numbered):
        return numbered
    raise InputError(
        f"the classes of the model are unknown; the labels of the samples have {', '.join(seen) or 'none'}",
        "set all classes, in the order of their probabilities",
    )


def _describe_origin(path: Path, source: _ModelSource, info: ModelFileInfo) -> dict[str, object]:
    """Return the origin of the package for a reviewer; for a pickle, with the names that loading it would import."""
    evidence: dict[str, object] = {"file": path.name, "format": source.format}
    if source.format == "joblib":
        evidence |= {"imports": list(info.imports), "complete": info.whole, "doubt": info.doubt}
        evidence |= scan_pickle(source.content)
    return evidence


def _check_class_order(model: Model, rows: pl.DataFrame) -> None:
    """Check that most labels that an ONNX graph predicts for the samples are those with the highest probability."""
    predictions = BUILT_IN[model.manifest.flavor]()(model).predict(rows)
    if predictions.probabilities is None:
        return
    classes = model.manifest.signature.classes
    highest = [classes[index] for index in predictions.probabilities.argmax(axis=1)]
    if np.mean([label == best for label, best in zip(highest, predictions.values, strict=True)]) < 0.5:
        raise InputError(
            f"the classes {', '.join(classes)} are not in the order of the model's probabilities", "correct their order"
        )
