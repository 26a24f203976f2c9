"""Transformations: functions of features.py that compute columns of a row, in the training and at serving."""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

from tidemill.core.feature import RowTransformation


class Transformation:
    """A transformation of a project's `features.py`; calling it calls its function."""

    def __init__(self, function: Callable[..., Any], definition: RowTransformation) -> None:
        self.function = function
        self.definition = definition
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @property
    def name(self) -> str:
        return self.definition.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def transformation(
    function: Callable[..., Any] | None = None,
    *,
    inputs: tuple[str, ...] | list[str] = (),
    outputs: tuple[str, ...] | list[str] = (),
) -> Any:
    """Define a function of `features.py` as a transformation: it computes inputs of the model from other columns.

    The model package contains its code. Training, evaluation, serving, batches, backtests and exported models run the
    same code, so a request has the columns that the function reads, not those that it computes.

    Each parameter is the name of a column, which the function gets as a Polars series; parameters with a default are
    no columns. The result has one value for each row: a series, a Polars expression, an array or a list. A value must
    depend only on the columns of its own row. Transformations run in the order of their definition; a later one can
    read, or replace, the column of an earlier one.

    Parameters
    ----------
    inputs
        The columns to read, if their names cannot be parameters. The function then gets one frame with these columns.
    outputs
        The computed columns; the default is one column with the name of the function. With several, the result is a
        frame, a dictionary, or a list of named expressions or series.
    """
    if function is None:
        return lambda decorated: transformation(decorated, inputs=inputs, outputs=outputs)
    name = getattr(function, "__name__", "")
    parameters = signature(function).parameters.values()
    if name in ("", "<lambda>") or any(p.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) for p in parameters):
        raise TypeError(f"transformation {name!r} must be a function with a name and without *args or **kwargs")
    if isinstance(inputs, str) or isinstance(outputs, str):
        raise TypeError(f"transformation {name!r}: inputs and outputs are lists of column names")
    required = tuple(parameter.name for parameter in parameters if parameter.default is Parameter.empty)
    if inputs and len(required) != 1:
        raise TypeError(f"transformation {name!r} has `inputs`, so its function needs one parameter: the frame of them")
    if not inputs and not required:
        raise TypeError(f"transformation {name!r} reads no column: name its columns as parameters")
    definition = RowTransformation(
        name=name,
        inputs=tuple(inputs) or required,
        outputs=tuple(outputs) or (name,),
        takes_frame=bool(inputs),
    )
    return Transformation(function, definition)
