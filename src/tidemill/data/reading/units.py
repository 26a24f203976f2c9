"""Units of numbers: the sign of a currency or of percent beside the numbers of a column, negatives in parentheses."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from tidemill.data.keys import count_values

PARENTHESES = "()"
"""The unit of a column without a sign in which negative numbers are `(5)` or `5-`."""

_PERCENT = ("%", "‰")
_CODES = (
    *("USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "KRW", "CAD", "AUD", "SEK", "NOK", "DKK", "PLN", "CZK", "BRL"),
    *("Rs", "Rs.", "R$", "US$", "A$", "C$", "kr", "kr.", "zł", "Kč", "Ft", "Fr."),
)
_WORD = re.compile(r"^[A-Za-zµ°²³/]{1,8}$")
_SPACES = "[ \u00a0\u202f\u2009]*"
_NUMBER = "(?P<number>[0-9.,](?:[0-9.,'’ \u00a0\u202f\u2009]*[0-9.,])?(?:[eE][+-]?[0-9]+)?)"
_BESIDE = "[0-9.,'’()+\u2212 \u00a0\u202f\u2009-]"
_ZERO = r"^[0.,]+$"
_SUFFIXED = r"^[+-]?[0-9][0-9.,]* ?[^0-9., ]+$"
_NEGATIVE = r"^\s*\(.*\)\s*$|[0-9]\s*-\s*$"
_NEARLY_ALL = 0.95
_SAMPLE = 5_000


class FoundUnits(NamedTuple):
    """The signs beside the numbers of a column, with the counts of values; `without` counts numbers without a sign."""

    signs: dict[str, int]
    without: int


def strip_unit(values: pl.Series, unit: str) -> pl.Series:
    """Return numbers without their unit, negative ones with a minus sign; null for what is not a number with the unit.

    A number may lack the sign of a currency, but not that of percent: 0.05 is probably 5%. The number of 5% is 5.

    >>> strip_unit(pl.Series(["$1,234.50", "-$5", "($5)", "$ -", "€5"]), "$").to_list()
    ['1,234.50', '-5', '-5', '0', None]
    """
    sign = "" if unit == PARENTHESES else unit
    parts = values.alias("text").to_frame().select(pl.col("text").str.extract_groups(_grammar(sign))).unnest("text")
    opened, closed = (_count(f"{name}1", f"{name}2") for name in ("open", "close"))
    marks, signs = _count("open1", "open2", "minus1", "minus2", "minus3"), _count("before", "after")
    number = pl.col("number")
    enough = (signs == 1) | number.str.contains(_ZERO) if sign in _PERCENT else signs <= 1
    negative = pl.when(marks == 1).then(pl.lit("-")).otherwise(pl.lit(""))
    read = pl.when((opened == closed) & (marks <= 1) & enough).then(negative + number)
    plain = parts.select(read.alias(values.name)).to_series()
    if sign:
        dash = values.str.contains(f"^{_SPACES}{re.escape(sign)}{_SPACES}-{_SPACES}$")  # zero, as Excel writes it
        plain = plain.set(dash.fill_null(value=False), "0")
    return plain


def _count(*names: str) -> pl.Expr:
    """Return how many groups of the grammar have a character other than a plus sign."""
    return pl.sum_horizontal((pl.col(name).fill_null("").is_in(["", "+"]).not_()).cast(pl.Int8) for name in names)


@lru_cache
def _grammar(sign: str) -> str:
    beside = f"(?:{re.escape(sign)})?" if sign else ""
    minus, opening, closing = "[+\u2212-]?", "\\(?", "\\)?"
    before = [("open1", opening), ("minus1", minus), ("before", beside), ("minus2", minus), ("open2", opening)]
    after = [("close1", closing), ("minus3", "-?"), ("after", beside), ("close2", closing)]
    first, last = ([f"(?P<{name}>{pattern})" for name, pattern in groups] for groups in (before, after))
    return "^" + _SPACES.join(["", *first, _NUMBER, *last, ""]) + "$"


def find_units(values: pl.Series) -> FoundUnits:
    """Return the signs beside the numbers of a column without nulls; nothing if most values are no such numbers."""
    beside = values.unique(maintain_order=True).head(_SAMPLE).str.replace_all(_BESIDE, "")
    likely = [sign for sign in beside.unique().to_list() if not sign or is_sign(sign) or _WORD.match(sign)]
    if beside.is_in(likely).sum() < _NEARLY_ALL * len(beside):
        return _NOTHING
    rest = values.str.replace_all(_BESIDE, "")
    counted = {str(sign): int(count) for sign, count in count_values(rest).rows()}
    signs = {}
    for sign, count in counted.items():
        with_sign = values.filter(rest == sign)
        if is_sign(sign) or (_WORD.match(sign) and with_sign.str.contains(_SUFFIXED).all()):
            fitting = len(strip_unit(with_sign, sign).drop_nulls())
            if fitting >= _NEARLY_ALL * count:
                signs[sign] = fitting
    plain = values.filter(rest == "")
    without = len(strip_unit(plain, PARENTHESES).drop_nulls())
    if sum(signs.values()) + without < _NEARLY_ALL * len(values):
        return _NOTHING
    if signs:
        return FoundUnits(signs, without)
    return FoundUnits({PARENTHESES: without}, 0) if plain.str.contains(_NEGATIVE).any() else _NOTHING


_NOTHING = FoundUnits({}, 0)


def is_sign(text: str) -> bool:
    """Return whether a text is the sign of a currency or of percent."""
    return text in (*_PERCENT, *_CODES) or (len(text) == 1 and unicodedata.category(text) == "Sc")


def is_percent(sign: str) -> bool:
    """Return whether a sign is one of percent."""
    return sign in _PERCENT
