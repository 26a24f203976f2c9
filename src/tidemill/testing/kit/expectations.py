"""Tests of what people know about the problem: inputs that change nothing, and directions of the predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import polars as pl
from msgspec import Meta, Struct

from tidemill.core.model import Model
from tidemill.data.arrays import Floats
from tidemill.errors import ConfigurationError
from tidemill.recipes.scoring import score
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.training import SampleTraining

__tracebackhide__ = True
FILE = "expectations.toml"
_ROWS = 500
_TOLERANCE = 1e-9

TextChange = Literal["case", "upper", "lower", "spaces"]


class Invariance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of an input that changes no prediction.

    Attributes
    ----------
    column
        The input.
    change
        `case`, `upper`, `lower` or `spaces` for a text.
    value
        The value that every row gets instead.
    share
        The least share of rows whose prediction stays.
    tolerance
        The largest difference that counts as no change.
    """

    column: str
    change: TextChange | None = None
    value: Any = None
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    tolerance: Annotated[float, Meta(ge=0)] = _TOLERANCE


class Direction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a number and the direction of the prediction: of the number, or of the probability of a class.

    Attributes
    ----------
    column
        The input.
    add
        What is added to it.
    times
        The factor that it is multiplied with.
    prediction
        `not lower` or `not higher`.
    of
        The class; the default is the positive class.
    share
        The least share of rows in which this holds.
    tolerance
        How far a prediction may be on the other side.
    """

    column: str
    prediction: Literal["not lower", "not higher"]
    add: float = 0.0
    times: float = 1.0
    of: str = ""
    share: Annotated[float, Meta(gt=0, le=1)] = 0.95
    tolerance: Annotated[float, Meta(ge=0)] = _TOLERANCE


class Expectations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The expectations in a file."""

    invariance: tuple[Invariance, ...] = ()
    direction: tuple[Direction, ...] = ()


def read_expectations(file: Path) -> Expectations:
    """Return the expectations in a TOML file; raise `ConfigurationError` if it has an error."""
    try:
        return msgspec.toml.decode(file.read_bytes(), type=Expectations)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error.strerror}", "write it: `tidemill ci generate-tests`"
        ) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{file.name}: {error}", "correct this table") from None


def require_expectations(training: SampleTraining, expectations: Expectations) -> None:
    """Require that the model of the sample has the stated invariances and directions."""
    for invariance in expectations.invariance:
        require_invariance(training, invariance)
    for direction in expectations.direction:
        require_direction(training, direction)


def require_invariance(training: SampleTraining, expected: Invariance) -> None:
    """Require that a change of an input changes no prediction."""
    rows = _select_rows(training, expected.column)
    column = pl.col(expected.column)
    dtype = rows.schema[expected.column]
    if expected.change is None:
        changed = rows.with_columns(pl.lit(expected.value).cast(dtype).alias(expected.column))
        what = f"{expected.column!r} = {expected.value!r}"
    else:
        changed = rows.with_columns(_CHANGES[expected.change](column).alias(expected.column))
        what = f"{expected.change} of {expected.column!r}"
    before, after = score(training.model, rows), score(training.model, changed)
    difference = np.abs(after - before)
    same = difference <= expected.tolerance if difference.ndim == 1 else (difference <= expected.tolerance).all(axis=1)
    if same.mean() < expected.share:
        index = int((~same).argmax())
        fail(
            f"expectation: {what} changes {1 - same.mean():.1%} of the predictions, such as that of "
            f"{rows[expected.column][index]!r}",
            "make the input uniform in a transformation, or correct the expectation",
        )


def require_direction(training: SampleTraining, expected: Direction) -> None:
    """Require that a change of a number moves predictions only in one direction."""
    rows = _select_rows(training, expected.column)
    changed = rows.with_columns((pl.col(expected.column) * expected.times + expected.add).alias(expected.column))
    before, after = (_find_numbers(training.model, part, expected.of) for part in (rows, changed))
    rise = after - before if expected.prediction == "not lower" else before - after
    holds = rise >= -expected.tolerance
    if holds.mean() < expected.share:
        index = int((~holds).argmax())
        change = f"+ {expected.add:g}" if expected.add else f"× {expected.times:g}"
        fail(
            f"expectation: with {expected.column!r} {change} the prediction is {expected.prediction} in only "
            f"{holds.mean():.1%} of the rows, such as {before[index]:.4g} and then {after[index]:.4g}",
            "constrain the model (monotone_constraints of LightGBM), or correct the expectation",
        )


def _select_rows(training: SampleTraining, column: str) -> pl.DataFrame:
    rows = training.sample.joined
    inputs = [each.name for each in training.model.manifest.signature.inputs]
    if column not in inputs:
        raise ConfigurationError(
            f"an expectation names {column!r}, which is no input of the model", f"its inputs are: {', '.join(inputs)}"
        )
    return rows.filter(pl.col(column).is_not_null()).tail(_ROWS)


def _find_numbers(model: Model, rows: pl.DataFrame, of: str) -> Floats:
    scores, signature = score(model, rows), model.manifest.signature
    if scores.ndim == 1:
        return scores
    name = of or signature.positive
    if name not in signature.classes:
        raise ConfigurationError(
            f"an expectation needs the class that it is about: {name!r} is none",
            f"set of to one of {signature.classes}",
        )
    return np.asarray(scores[:, signature.classes.index(name)])


def _swap_case(column: pl.Expr) -> pl.Expr:
    return (
        pl.when(column == column.str.to_uppercase())
        .then(column.str.to_lowercase())
        .otherwise(column.str.to_uppercase())
    )


_CHANGES: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "case": _swap_case,
    "upper": lambda column: column.str.to_uppercase(),
    "lower": lambda column: column.str.to_lowercase(),
    "spaces": lambda column: pl.concat_str(pl.lit(" "), column, pl.lit(" ")),
}
