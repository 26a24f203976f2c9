"""Which decimal and thousands separators the numbers of a text file have."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import polars as pl

from tidemill.core.dialect import Dialect
from tidemill.data.reading.values import nullify, number_grammar
from tidemill.errors import DataError

_LIKE_A_NUMBER = r"^[+-]?[0-9.,][0-9.,'’ \u00a0\u202f]*(?:[eE][+-]?[0-9]+)?$"
_THOUSANDS_OR_FRACTION = {",": r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$", ".": r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"}
_NEARLY_ALL = 0.95
_SAMPLE = 5_000


class Convention(NamedTuple):
    """The decimal separator and the thousands separator, empty for none."""

    decimal: Literal[".", ","]
    thousands: str


# On a tie the first one is chosen.
_CONVENTIONS = (
    *(Convention(".", ""), Convention(".", ","), Convention(",", ""), Convention(",", ".")),
    *(Convention(".", " "), Convention(",", " "), Convention(".", "'"), Convention(",", "'")),
)


def find_convention(
    columns: Sequence[pl.Series], dialect: Dialect, separator: str, decimal: str | None, thousands: str | None
) -> Convention:
    """Return the convention in which most columns of text are numbers; `decimal` and `thousands` are given ones.

    Raises
    ------
    DataError
        if values such as 1,234 are thousands or fractions, and nothing in the file decides.
    """
    possible = [
        convention
        for convention in _CONVENTIONS
        if decimal in (None, convention.decimal) and thousands in (None, convention.thousands)
    ]
    if not possible:
        possible = [Convention("," if decimal == "," else ".", thousands or "")]
    samples = [sample for values in columns if len(sample := _take_numbers(values, dialect))]
    scores = [sum(_fits(sample, convention) for sample in samples) for convention in possible]
    chosen = possible[scores.index(max(scores, default=0))] if samples else possible[0]
    if decimal is None and thousands is None and separator != ",":
        _require_certain(samples, chosen)
    return chosen


def _take_numbers(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return different values of a column, if nearly all of them look like numbers; else nothing."""
    sample = nullify(values.drop_nulls().unique().head(_SAMPLE), dialect).drop_nulls()
    return sample if _share(sample, _LIKE_A_NUMBER) >= _NEARLY_ALL else sample.clear()


def _fits(sample: pl.Series, convention: Convention) -> bool:
    return _share(sample, number_grammar(*convention)) >= _NEARLY_ALL


def _share(sample: pl.Series, pattern: str) -> float:
    return float(sample.str.contains(pattern).sum()) / max(len(sample), 1)


def _require_certain(samples: Sequence[pl.Series], chosen: Convention) -> None:
    """Raise if every value with the sign has three digits after it, so that it may be either separator."""
    sign = chosen.thousands if chosen.thousands in (",", ".") else "." if chosen.decimal == "." else ","
    signed = [sample.filter(sample.str.contains(re.escape(sign))) for sample in samples]
    signed = [sample for sample in signed if len(sample)]
    if chosen.decimal != sign and chosen.thousands != sign:
        return
    if not signed or not all(sample.str.contains(_THOUSANDS_OR_FRACTION[sign]).all() for sample in signed):
        return
    name, value = signed[0].name, signed[0][0]
    raise DataError(
        f"column {name!r} has values such as {value}: {sign!r} separates thousands or fractions",
        f"add --thousands {sign} or --decimal {sign}",
    )
