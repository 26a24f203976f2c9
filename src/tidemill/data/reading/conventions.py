"""Which decimal and thousands separators the numbers of a text file have."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import polars as pl

from tidemill.core.dialect import Dialect
from tidemill.data.reading.values import nullify, number_grammar
from tidemill.errors import DataError

LIKE_A_NUMBER = r"^[+-]?[0-9.,][0-9.,'’ \u00a0\u202f]*(?:[eE][+-]?[0-9]+)?$"
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
    columns: Sequence[pl.Series], dialect: Dialect, decimal: str | None, thousands: str | None, *, ask: bool
) -> Convention:
    """Return the convention in which most columns of text are numbers; `decimal` and `thousands` are given ones.

    Raises
    ------
    DataError
        if values such as 1,234 are thousands or fractions, nothing in the file decides, and `ask` is true.
    """
    possible = [
        convention
        for convention in _CONVENTIONS
        if decimal in (None, convention.decimal) and thousands in (None, convention.thousands)
    ]
    if not possible:
        possible = [Convention("," if decimal == "," else ".", thousands or "")]
    samples = [sample for values in columns if len(sample := _take_numbers(values, dialect))]
    scores = {convention: _score(samples, convention) for convention in possible}
    chosen = max(possible, key=lambda convention: scores[convention])
    if decimal is None and thousands is None and ask:
        _require_certain(samples, chosen, scores)
    return chosen


def _score(samples: Sequence[pl.Series], convention: Convention) -> int:
    """Return how many columns are numbers in a convention."""
    return sum(_fits(sample, convention) for sample in samples)


def _take_numbers(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return different values of a column, if nearly all of them look like numbers; else nothing."""
    sample = nullify(values.drop_nulls().unique(maintain_order=True).head(_SAMPLE), dialect).drop_nulls()
    return sample if _share(sample, LIKE_A_NUMBER) >= _NEARLY_ALL else sample.clear()


def _fits(sample: pl.Series, convention: Convention) -> bool:
    return _share(sample, number_grammar(*convention)) >= _NEARLY_ALL


def _share(sample: pl.Series, pattern: str) -> float:
    return float(sample.str.contains(pattern).sum()) / max(len(sample), 1)


def _require_certain(samples: Sequence[pl.Series], chosen: Convention, scores: Mapping[Convention, int]) -> None:
    """Raise if a sign separates the decimals in one convention and the thousands in another, and both fit as well."""
    equal = [convention for convention, score in scores.items() if score == scores[chosen]]
    for sign in {chosen.decimal, chosen.thousands} & {",", "."}:
        signed = [sample.filter(sample.str.contains(re.escape(sign))) for sample in samples if _fits(sample, chosen)]
        values = next((sample for sample in signed if len(sample)), None)
        if values is not None and len({sign == convention.decimal for convention in equal if sign in convention}) > 1:
            raise DataError(
                f"column {values.name!r} has values such as {values[0]}: {sign!r} separates thousands or fractions",
                f"add --thousands {sign} or --decimal {sign}",
            )
