"""A LightGBM model as `booster.save_model` writes it: text, asked with the columns that it was trained on."""

import re
from itertools import takewhile
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.core.model import Model, Task
from tidemill.data.rows import RowReader
from tidemill.errors import DataError
from tidemill.models.file_info import ModelFileInfo
from tidemill.models.predictions import Predictions, to_predictions

FILE = "model.txt"
_LAST = "\npandas_categorical:"
# LightGBM lists the bins of a category as 0:1:2, and the range of a number as [0:2].
_CATEGORY = re.compile(r"-?\d+(:-?\d+)*")
_PROBABILITIES = ("binary", "multiclass", "multiclassova", "cross_entropy")


class LightGBMRaw:
    """A booster on its own columns, in its own order; text is for the columns that were pandas categories."""

    def __init__(self, model: Model) -> None:
        import lightgbm

        self.signature = model.manifest.signature
        self._reader = RowReader(self.signature.inputs)
        text = model.files[FILE].decode()
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as wrong:
            raise DataError(f"LightGBM cannot read {model.manifest.name!r}: {wrong}", "save the model again") from None
        if self._booster.num_feature() != len(self.signature.inputs):
            raise DataError(
                f"package {model.manifest.name!r} has {self._booster.num_feature()} features in its booster and "
                f"{len(self.signature.inputs)} in its signature",
                "register it again",
            )
        self._codes = [
            {value: float(place) for place, value in enumerate(values)} if values else None
            for values in _categories(text)
        ]

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Answers for rows, shape (n,) or (n, classes)."""
        columns = zip(self._reader.read_frame(frame), self._codes, strict=True)
        matrix = np.column_stack([_numbers(values, codes) for values, codes in columns])
        scores = np.asarray(self._booster.predict(matrix, num_threads=1 if frame.height < 1000 else 0))
        return to_predictions(self.signature, scores)


def read_info(content: bytes) -> ModelFileInfo:
    """What the header of a model in LightGBM's text format tells; it is read as text only.

    Raises
    ------
    DataError
        if the file is not whole.
    """
    try:
        text = content.decode()
        header = _header(text)
        names = tuple(header["feature_names"].split())
        width, outputs = int(header["max_feature_idx"]) + 1, int(header["num_class"])
    except (UnicodeDecodeError, KeyError, ValueError):
        raise DataError("the header of the LightGBM model is not whole", "save it again: booster.save_model") from None
    if "\nend of trees" not in text:
        raise DataError("the LightGBM model is cut off before its end", "copy it again, or save it again")
    objective = header.get("objective", "").split(" ")[0]
    if outputs > 1 and objective not in _PROBABILITIES:
        raise DataError(
            f"the LightGBM model gives {outputs} numbers for a row, which are no probabilities",
            "train it with the objective multiclass",
        )
    mapped = zip(names, _categories(text), strict=True)
    texts = tuple(name for name, values in mapped if any(isinstance(value, str) for value in values or ()))
    numbered = names == tuple(f"Column_{place}" for place in range(width))
    return ModelFileInfo(
        names=() if numbered else names,
        width=width,
        texts=texts,
        task=_task(objective),
        outputs=max(outputs, 2) if objective in _PROBABILITIES else None,
    )


def _header(text: str) -> dict[str, str]:
    lines = takewhile(lambda line: line.strip(), text.splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _task(objective: str) -> Task | None:
    """The task of an objective; cross-entropy fits both, and a user's own objective gives plain numbers."""
    if objective == "cross_entropy":
        return None
    return "classification" if objective in _PROBABILITIES else "regression"


def _categories(text: str) -> list[list[Any] | None]:
    """For each feature, the values of its pandas category in the order of their codes, or None.

    Raises
    ------
    DataError
        if it is not certain which features these were.
    """
    kinds = _header(text)["feature_infos"].split()
    last = text.rfind(_LAST)
    try:
        kept = msgspec.json.decode(text[last + len(_LAST) :].strip() or b"null") if last >= 0 else None
    except msgspec.DecodeError:
        raise DataError("the last line of the LightGBM model is not whole", "save it again") from None
    if not kept:
        return [None] * len(kinds)
    places = [place for place, kind in enumerate(kinds) if _CATEGORY.fullmatch(kind)]
    if len(places) != len(kept):
        raise DataError(
            f"the LightGBM model has {len(kept)} pandas categories and {len(places)} features with categories: "
            "which belongs to which is not certain",
            "leave out categories that hold one value only, or save the scikit-learn wrapper by joblib",
        )
    found: list[list[Any] | None] = [None] * len(kinds)
    for place, values in zip(places, kept, strict=True):
        found[place] = values
    return found


def _numbers(values: pl.Series, codes: dict[Any, float] | None) -> npt.NDArray[np.float64]:
    if codes is not None:
        return np.array([codes.get(value, np.nan) for value in values.to_list()], dtype=np.float64)
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()
