"""Takes in a model that was made elsewhere: a package with a signature, from a file and sample rows.

Nothing in a pickle is ever loaded here. The formats that hold no code are read; ONNX Runtime computes a graph's
answers for the sample rows, which shows that they fit.
"""

from pathlib import Path

import numpy as np
import polars as pl
from msgspec import Struct, structs

from tidemill.core.feature import FeatureSet
from tidemill.core.model import Manifest, Model, Signature, Task
from tidemill.data.keys import as_classes
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, InputError
from tidemill.models import pickles
from tidemill.models.environment import installed_versions
from tidemill.models.file_info import ModelFileInfo
from tidemill.models.flavors import BUILT_IN, lightgbm_raw, mlflow, onnx
from tidemill.models.flavors import joblib as joblib_flavor
from tidemill.models.formats import Format, detect_format
from tidemill.models.inputs import SAMPLES, declare, keep

_FILES: dict[Format, str] = {
    "lightgbm-raw": lightgbm_raw.FILE,
    "joblib": joblib_flavor.FILE,
    "onnx": onnx.FILE,
}
_MADE_OF: dict[Format, tuple[str, ...]] = {
    "lightgbm-raw": ("lightgbm", "numpy"),
    "joblib": ("scikit-learn", "joblib", "numpy"),
    "onnx": ("onnxruntime", "numpy"),
}


class _Found(Struct, frozen=True):
    """What is at a path: the files to pack, the flavor that asks them, and the format and content of the model."""

    files: dict[str, bytes]
    flavor: str
    form: Format
    content: bytes


def adopt(
    path: Path,
    samples: pl.DataFrame,
    *,
    name: str,
    task: Task | None = None,
    classes: tuple[str, ...] = (),
    label: str = "",
    trusted: bool = False,
) -> Model:
    """The package of a model that was made elsewhere: joblib, LightGBM text, ONNX, or a directory of MLflow.

    Parameters
    ----------
    samples
        Rows as the model takes them, 100 of which are kept; they may have the `label`, which is left out.
    task, classes
        What the file does not tell of itself; the classes in the order of its probabilities.
    trusted
        Whether who registers it vouches for a pickle. Without this it is packed, but never loaded.

    Raises
    ------
    DataError
        if the file is missing, of no known format or not whole, or the sample rows do not fit it.
    InputError
        if its task or its classes cannot be known, or are said to be other than they are.
    MissingExtra
        if it is ONNX and ONNX Runtime is not installed.
    """
    rows = samples.drop(label, strict=False) if label else samples
    if rows.is_empty() or not rows.width:
        raise DataError("there are no sample rows", "give some rows as the model takes them")
    found = _find(path)
    shown = samples[label] if label in samples.columns else None
    told = _read(found, rows)
    settled = _task(told, task, classes, shown)
    signature = Signature(
        inputs=declare(rows, told),
        task=settled,
        classes=_classes(told, classes, shown) if settled == "classification" else (),
    )
    taken = RowReader(signature.inputs).read_frame(rows)
    model = Model(
        manifest=Manifest(
            name=name,
            flavor=found.flavor,
            signature=signature,
            features=FeatureSet(request=tuple(taken.columns)),
            environment=installed_versions(*_MADE_OF[found.form]) | told.versions,
            data={"adopted": _evidence(path, found, told)},
            trusted=trusted if found.form == "joblib" else True,
        ),
        files=found.files | {SAMPLES: keep(taken)},
    )
    if found.form == "onnx":
        _answers(model, taken)
    return model


def _find(path: Path) -> _Found:
    if not path.exists():
        raise DataError(f"there is no model at {path}", "check the path")
    if path.is_file():
        content = path.read_bytes()
        form = detect_format(content, str(path))
        return _Found({_FILES[form]: content}, form, form, content)
    if not (path / "MLmodel").is_file():
        raise DataError(f"{path} is a directory without an MLmodel file", "give a model's file, or an MLflow directory")
    files = {
        mlflow.ROOT + each.relative_to(path).as_posix(): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file() and not each.is_symlink()
    }
    content = mlflow.read_model_file(files)
    return _Found(files, "mlflow", detect_format(content, f"the model in {path}"), content)


def _read(found: _Found, rows: pl.DataFrame) -> ModelFileInfo:
    if found.form == "lightgbm-raw":
        told = lightgbm_raw.read_info(found.content)
    elif found.form == "onnx":
        told = onnx.read_info(found.content, rows)
    else:
        told = pickles.read_info(found.content)
        if lost := [path for path in told.imports if path.startswith("__main__.")]:
            raise DataError(
                f"the model needs {', '.join(lost)}, which lived in a notebook and can be loaded nowhere else",
                "move it into a module, install that, and save the model again",
            )
    if found.flavor != "mlflow":
        return told
    names = told.names or mlflow.read_input_names(found.files)
    return structs.replace(told, names=names, versions=told.versions | mlflow.read_versions(found.files))


def _task(told: ModelFileInfo, said: Task | None, classes: tuple[str, ...], shown: pl.Series | None) -> Task:
    if said is not None and told.task is not None and said != told.task:
        raise InputError(f"the model does {told.task}, not {said}", "leave the task out")
    words = shown is not None and (shown.dtype == pl.String or shown.dtype == pl.Boolean)
    guess: Task | None = "classification" if classes or words else None
    if task := said or told.task or guess:
        if task == "regression" and classes:
            raise InputError("a regression has no classes", "leave the classes out, or correct the task")
        return task
    raise InputError(
        "the model does not tell whether it does classification or regression",
        "say so: task = classification with its classes in the order of their probabilities, or task = regression",
    )


def _classes(told: ModelFileInfo, said: tuple[str, ...], shown: pl.Series | None) -> tuple[str, ...]:
    """The classes: as the file tells, as was said, or as the samples' labels show where they show them all."""
    if told.classes:
        if said and set(said) != set(told.classes):
            raise InputError(
                f"the model knows the classes {', '.join(told.classes)}, not {', '.join(said)}", "leave the classes out"
            )
        return said or told.classes
    seen = tuple(as_classes(shown.drop_nulls().unique().sort()).to_list()) if shown is not None else ()
    count = told.outputs
    if said:
        if count not in (None, len(said)) or len(set(said)) != len(said):
            raise InputError(f"the model has {count or 'different'} classes, not {', '.join(said)}", "correct them")
        return said
    if len(seen) > 1 and count in (None, len(seen)):
        return seen
    numbered = tuple(str(place) for place in range(count or 0))
    if numbered and set(seen) <= set(numbered):
        return numbered
    raise InputError(
        f"the classes of the model are not known; the labels of the samples show {', '.join(seen) or 'none'}",
        "name them all, in the order of their probabilities",
    )


def _evidence(path: Path, found: _Found, told: ModelFileInfo) -> dict[str, object]:
    """What a reviewer wants to know of where the package came from; of a pickle, what loading it would import."""
    evidence: dict[str, object] = {"file": path.name, "format": found.form}
    if found.form == "joblib":
        evidence |= {"imports": list(told.imports), "read_to_its_end": told.whole}
    return evidence


def _answers(model: Model, rows: pl.DataFrame) -> None:
    """Ask an ONNX graph for the samples: most of its labels are where its probabilities are highest."""
    answers = BUILT_IN[model.manifest.flavor]()(model).predict(rows)
    if answers.probabilities is None:
        return
    classes = model.manifest.signature.classes
    highest = [classes[place] for place in answers.probabilities.argmax(axis=1)]
    if np.mean([a == b for a, b in zip(highest, answers.values, strict=True)]) < 0.5:
        raise InputError(
            f"the classes {', '.join(classes)} are not in the order of the model's probabilities", "correct their order"
        )
