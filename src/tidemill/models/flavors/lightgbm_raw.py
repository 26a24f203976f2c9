"""LightGBM text: a model as `booster.save_model` writes it, with the columns that it was trained on."""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.core.model import Model, PredictionTask
from tidemill.data.rows import RowReader
from tidemill.errors import DataError
from tidemill.host.boosting import import_lightgbm
from tidemill.models.file_info import ModelFileInfo
from tidemill.models.predictions import Predictions, to_predictions

FILE = "model.txt"
_CATEGORIES_LINE = "\npandas_categorical:"
# LightGBM lists the bins of a category as 0:1:2, and the range of a number as [0:2].
_CATEGORY = re.compile(r"-?\d+(:-?\d+)*")
_PROBABILITIES = ("binary", "multiclass", "multiclassova", "cross_entropy")


class LightGBMRaw:
    """A booster with its columns in its order; text columns are those that were pandas categories."""

    def __init__(self, model: Model) -> None:
        lightgbm = import_lightgbm()
        self.signature = model.manifest.signature
        self._reader = RowReader(self.signature.inputs)
        text = model.files[FILE].decode()
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise DataError(f"LightGBM cannot read {model.manifest.name!r}: {error}", "save the model again") from None
        if self._booster.num_feature() != len(self.signature.inputs):
            raise DataError(
                f"package {model.manifest.name!r} has {self._booster.num_feature()} features in its booster and "
                f"{len(self.signature.inputs)} in its signature",
                "register it again",
            )
        self._codes = [
            {value: float(code) for code, value in enumerate(values)} if values else None
            for values in read_categories(text)
        ]

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Predict rows; the probabilities have the shape (n, classes)."""
        columns = zip(self._reader.read_frame(frame), self._codes, strict=True)
        matrix = np.column_stack([_to_numbers(values, codes) for values, codes in columns])
        scores = np.asarray(self._booster.predict(matrix, num_threads=1 if frame.height < 1000 else 0))
        return to_predictions(self.signature, scores)


def read_info(content: bytes) -> ModelFileInfo:
    """Return the facts in the header of a LightGBM text file; the file is read as text only.

    Raises
    ------
    DataError
        if the file is incomplete.
    """
    try:
        text = content.decode()
        header = _read_header(text)
        names = tuple(header["feature_names"].split(" "))
        width, outputs = int(header["max_feature_idx"]) + 1, int(header["num_class"])
    except (UnicodeDecodeError, KeyError, ValueError):
        raise DataError("the header of the LightGBM model is incomplete", "save it again: booster.save_model") from None
    if "\nend of trees" not in text:
        raise DataError("the LightGBM model file is truncated", "copy it again, or save it again")
    objective = header.get("objective", "").split(" ")[0]
    if outputs > 1 and objective not in _PROBABILITIES:
        raise DataError(
            f"the LightGBM model predicts {outputs} numbers for a row, and they are not probabilities",
            "train it with the objective multiclass",
        )
    features = zip(names, read_categories(text), strict=True)
    texts = tuple(name for name, values in features if any(isinstance(value, str) for value in values or ()))
    numbered = names == tuple(f"Column_{index}" for index in range(width))
    return ModelFileInfo(
        names=() if numbered else names,
        width=width,
        texts=texts,
        task=_find_task(objective),
        outputs=max(outputs, 2) if objective in _PROBABILITIES else None,
    )


def _read_header(text: str) -> dict[str, str]:
    # Python splits lines and words also at characters that a name can contain.
    lines = takewhile(lambda line: line.strip(), text.split("\n"))
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _find_task(objective: str) -> PredictionTask | None:
    """Return the task of an objective: None for cross-entropy, which fits both; regression for a custom objective."""
    if objective == "cross_entropy":
        return None
    return "classification" if objective in _PROBABILITIES else "regression"


def read_categories(text: str) -> list[list[Any] | None]:
    """Return for each feature the values of its pandas category in the order of their codes, or None.

    Raises
    ------
    DataError
        if the file does not show which features were categories.
    """
    infos = _read_header(text)["feature_infos"].split()
    start = text.rfind(_CATEGORIES_LINE)
    try:
        categories = (
            msgspec.json.decode(text[start + len(_CATEGORIES_LINE) :].strip() or b"null") if start >= 0 else None
        )
    except msgspec.DecodeError:
        raise DataError("the last line of the LightGBM model is incomplete", "save it again") from None
    if not categories:
        return [None] * len(infos)
    indices = [index for index, info in enumerate(infos) if _CATEGORY.fullmatch(info)]
    if len(indices) != len(categories):
        raise DataError(
            f"the LightGBM model has {len(categories)} pandas categories, but {len(indices)} features with categories, "
            "so that they cannot be matched",
            "drop categories with only one value, or save the scikit-learn wrapper with joblib",
        )
    by_feature: list[list[Any] | None] = [None] * len(infos)
    for index, values in zip(indices, categories, strict=True):
        by_feature[index] = values
    require_codes(text, by_feature)
    return by_feature


def require_codes(text: str, by_feature: Sequence[list[Any] | None]) -> None:
    """Raise `DataError` if a feature has codes beyond its categories: these are of an ordered or constant column."""
    infos = _read_header(text)["feature_infos"].split()
    for index, (info, values) in enumerate(zip(infos, by_feature, strict=True)):
        if (
            values is not None
            and info != "none"
            and not (_CATEGORY.fullmatch(info) and max(map(int, info.split(":"))) < len(values))
        ):
            raise DataError(
                f"feature {index} of the LightGBM model does not fit its {len(values)} pandas categories, so that they "
                "cannot be matched",
                "make each categorical feature an unordered pandas category with several values, and fit it again",
            )


def _to_numbers(values: pl.Series, codes: dict[Any, float] | None) -> npt.NDArray[np.float64]:
    if codes is not None:
        return np.array([codes.get(value, np.nan) for value in values.to_list()], dtype=np.float64)
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()
