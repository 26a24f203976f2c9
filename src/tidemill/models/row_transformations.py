"""Computes the columns of transformations; it needs only Polars.

Packages with transformations contain this file as `code/tidemill_transformations.py`, so that an exported model runs
the same code as a training and the service.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

MODULE = "tidemill_features"
_SHOWN = 60


class TransformationError(Exception):
    """A transformation failed; `name` is its name, and the message the reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"transformation {name!r} {reason}")
        self.name = name


def load_functions(definitions: Sequence[Mapping[str, Any]]) -> list[Callable[..., Any]]:
    """Import the functions of transformations from the module that a package contains."""
    module = importlib.import_module(MODULE)
    return [getattr(module, definition["name"]) for definition in definitions]


def compute_columns(
    definitions: Sequence[Mapping[str, Any]], functions: Sequence[Callable[..., Any]], rows: pl.DataFrame
) -> pl.DataFrame:
    """Return the rows with the columns of all transformations, each computed after the earlier ones.

    Raises
    ------
    TransformationError
        if a column is missing, a function raises, or its result does not have its columns or one value for each row.
    """
    for definition, function in zip(definitions, functions, strict=True):
        rows = rows.with_columns(_compute(definition, function, rows))
    return rows


def _compute(definition: Mapping[str, Any], function: Callable[..., Any], rows: pl.DataFrame) -> list[pl.Series]:
    name, outputs = definition["name"], list(definition["outputs"])
    if missing := [column for column in definition["inputs"] if column not in rows.columns]:
        raise TransformationError(name, f"reads the column {missing[0]!r}, which the rows do not have")
    inputs = rows.select(definition["inputs"])

    def call(inputs: pl.DataFrame) -> pl.DataFrame:
        result = function(inputs) if definition["takes_frame"] else function(*inputs.get_columns())
        return _to_frame(result, outputs, inputs)

    try:
        columns = call(inputs)
    except Exception as error:
        about = _describe_failing(call, inputs)
        raise TransformationError(name, f"failed{about}: {type(error).__name__}: {error}") from error
    if set(columns.columns) != set(outputs):
        raise TransformationError(name, f"returns the columns {', '.join(columns.columns)}, not {', '.join(outputs)}")
    if columns.height != rows.height:
        raise TransformationError(name, f"returns {columns.height} values for {rows.height} rows")
    return [columns[column] for column in outputs]


def _describe_failing(call: Callable[[pl.DataFrame], pl.DataFrame], inputs: pl.DataFrame) -> str:
    """Describe a row for which a function raises; empty if it raises only for many rows together."""
    start, height = 0, inputs.height
    if not height:
        return ""
    while height > 1:
        half = height // 2
        if _raises(call, inputs.slice(start, half)):
            height = half
        elif _raises(call, inputs.slice(start + half, height - half)):
            start, height = start + half, height - half
        else:
            return ""
    values = ", ".join(f"{column} = {value!r:.{_SHOWN}}" for column, value in inputs.row(start, named=True).items())
    return f" for row {start} ({values:.{_SHOWN * 4}})"


def _raises(call: Callable[[pl.DataFrame], pl.DataFrame], inputs: pl.DataFrame) -> bool:
    try:
        call(inputs)
    except Exception:  # noqa: BLE001 - the function is the user's: it can raise anything
        return True
    return False


def _to_frame(result: Any, outputs: list[str], inputs: pl.DataFrame) -> pl.DataFrame:
    if isinstance(result, pl.DataFrame):
        return result
    if isinstance(result, Mapping):
        members = [_name(values, name) for name, values in result.items()]
    elif isinstance(result, list | tuple) and result and all(isinstance(m, pl.Expr | pl.Series) for m in result):
        members = list(result)
    else:
        members = [_name(result, outputs[0])]
    columns = inputs.select(members)
    # An expression without a column, such as a literal, has one value for all rows.
    if columns.height == 1 != inputs.height and all(isinstance(member, pl.Expr) for member in members):
        columns = inputs.with_columns(members).select(columns.columns)
    return columns


def _name(values: Any, name: str) -> pl.Expr | pl.Series:
    if isinstance(values, pl.Expr | pl.Series):
        return values.alias(name)
    if hasattr(values, "to_list") and not hasattr(values, "dtype"):
        values = values.to_list()
    return pl.Series(name, values, strict=False)
