"""Finds how an estimator was fitted: the names of its columns, and its categories (LightGBM, XGBoost, CatBoost)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from tidemill.data.estimator_rows import to_array
from tidemill.errors import DataError
from tidemill.models.flavors.lightgbm_raw import read_categories, require_codes

_SHOWN = 5
Categories = dict[str, list[Any]]


def list_names(estimator: Any) -> list[str]:
    """Return the names of the columns that an estimator was fitted on; empty if it was fitted on an array."""
    for attribute in ("feature_names_in_", "feature_names_"):
        names = getattr(estimator, attribute, None)
        if names is not None and len(names) and all(isinstance(name, str) for name in names):
            # CatBoost numbers the columns of an array.
            return [] if list(names) == [str(index) for index in range(len(names))] else list(names)
    return []


def find_categories(estimator: Any, columns: list[str]) -> Categories:
    """Return the values of the columns that were pandas categories in the training, in the order of their codes.

    Raises
    ------
    DataError
        if the model file does not contain them.
    """
    for part in _list_parts(estimator):
        if getattr(_get(part, "booster_"), "pandas_categorical", None):
            return _read_lightgbm(part.booster_, columns)
        if hasattr(part, "get_booster"):
            booster = part.get_booster()
            if "c" in (booster.feature_types or ()):
                return _read_xgboost(booster, columns)
    return {}


def list_catboost_categories(estimator: Any, columns: list[str]) -> list[str]:
    """Return the columns that are categorical features of CatBoost."""
    for part in _list_parts(estimator):
        if hasattr(part, "get_cat_feature_indices"):
            return [columns[index] for index in part.get_cat_feature_indices()]
    return []


def to_catboost_rows(table: pl.DataFrame, categorical: list[str]) -> Any:
    """Return rows for CatBoost, which finds columns by position: a category is text or a whole number, or "nan"."""
    array = np.empty((table.height, table.width), dtype=object)
    for index, values in enumerate(table):
        if values.name in categorical:
            array[:, index] = [_to_category(value) for value in values.to_list()]
        else:
            array[:, index] = to_array(values.to_frame())[:, 0]
    return array


def check_sample_categories(table: pl.DataFrame, categories: Categories) -> None:
    """Check that sample values of each category are values of the model; raise `DataError` if all are unknown."""
    for name, known in categories.items():
        values = table[name].drop_nulls().unique().to_list()
        if values and not set(values) & set(known):
            shown = ", ".join(map(repr, known[:_SHOWN]))
            raise DataError(
                f"column {name!r} is a category of the model with the values {shown}, and no sample row has one of "
                f"them: they have {', '.join(map(repr, values[:_SHOWN]))}",
                "register it again with samples in the types of the training data, for example as a Parquet file",
            )


def _to_category(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "nan"
    return int(value) if isinstance(value, float) and value == int(value) else value


def _list_parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator, and the fitted estimators in it that get its rows unchanged."""
    yield estimator
    inner = [_get(estimator, name) for name in ("best_estimator_", "estimator_")]
    inner += [_get(part, "estimator") for part in _get(estimator, "calibrated_classifiers_") or ()]
    several = _get(estimator, "estimators_")
    inner += list(several) if isinstance(several, list) else []
    if hasattr(estimator, "steps"):
        steps = [step for _, step in estimator.steps]
        inner += steps[-1:] if all(step in (None, "passthrough") for step in steps[:-1]) else []
    for part in inner:
        if part is not None and hasattr(part, "predict"):
            yield from _list_parts(part)


def _get(part: Any, name: str) -> Any:
    """Return an attribute; None if it is absent, or a property that raises because the part is not fitted."""
    try:
        return getattr(part, name, None)
    except Exception:  # noqa: BLE001 - a property of another library may raise anything
        return None


def _read_lightgbm(booster: Any, columns: list[str]) -> Categories:
    values, text = booster.pandas_categorical, booster.model_to_string()
    indices = sorted(booster.params.get("categorical_column") or ())
    if len(indices) != len(values):
        by_feature = read_categories(text)
        indices = [index for index, known in enumerate(by_feature) if known is not None]
    found = dict(zip(indices, values, strict=True))
    require_codes(text, [found.get(index) for index in range(booster.num_feature())])
    return {columns[index]: list(known) for index, known in found.items()}


def _read_xgboost(booster: Any, columns: list[str]) -> Categories:
    try:
        exported = dict(booster.get_categories(export_to_arrow=True).to_arrow())
    except (AttributeError, TypeError, ValueError):
        exported = {}
    known = {name: exported.get(name) for name, kind in zip(columns, booster.feature_types, strict=True) if kind == "c"}
    if any(values is None for values in known.values()):
        raise DataError(
            f"the XGBoost model has the categories {', '.join(known)}, and its file does not contain their values",
            "fit it with XGBoost 3.1 or later and save it again, or encode the categories in a scikit-learn pipeline",
        )
    return {name: values.to_pylist() for name, values in known.items() if values is not None}
