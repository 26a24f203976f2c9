"""Learns the units of the columns of a file: one sign is a fact, different signs are asked."""

import shlex
from collections.abc import Iterable

import polars as pl

from tidemill.core.dialect import Dialect
from tidemill.data.reading.conventions import LIKE_A_NUMBER
from tidemill.data.reading.units import PARENTHESES, find_units, is_percent, is_sign, strip_unit
from tidemill.data.reading.values import nullify
from tidemill.errors import DataError


def learn_units(columns: Iterable[pl.Series], dialect: Dialect, *, ask: bool) -> tuple[dict[str, str], list[str]]:
    """Return the unit of each column with one, and facts about columns that may have another unit.

    Raises
    ------
    DataError
        with `ask`, if the numbers of a column have different units, or some lack the sign of percent.
    """
    units, facts = {}, []
    for values in columns:
        name = values.name
        kept = nullify(values, dialect).drop_nulls()
        if kept.is_empty() or kept.str.contains(LIKE_A_NUMBER).all():
            continue
        found = find_units(kept)
        sign = next(iter(found.signs), "")
        if len(found.signs) == 1 and not is_sign(sign) and sign != PARENTHESES:
            option = f"--unit {shlex.quote(f'{name}={sign}')}"
            facts.append(f"column {name!r} is read as text; to read its numbers with the unit {sign}, add {option}")
        elif len(found.signs) == 1 and not (is_percent(sign) and _lacks(kept, sign)):
            units[name] = sign
        elif any(map(is_sign, found.signs)) and ask:
            shown = ", ".join(f"{sign} ({count:,})" for sign, count in found.signs.items())
            shown += f", none ({found.without:,})" if found.without else ""
            raise DataError(
                f"column {name!r} has numbers with different units: {shown}",
                "write all its numbers with one unit in the file; to keep the column as text, add --text "
                f"{shlex.quote(name)}",
            )
    return units, facts


def strip_units(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return numbers without the unit of their column; null for other values of such a column."""
    unit = dialect.units.get(values.name)
    return strip_unit(nullify(values, dialect), unit) if unit and values.dtype == pl.String else values


def _lacks(kept: pl.Series, sign: str) -> bool:
    """Return whether numbers of a column lack the sign that others have."""
    return bool((strip_unit(kept, sign).is_null() & strip_unit(kept, PARENTHESES).is_not_null()).any())


def explain_unit(unit: str) -> str:
    """Return a unit with an example."""
    if is_percent(unit):
        return f"{unit} (5{unit} is 5)"
    if unit == PARENTHESES:
        return "none, and (5) is -5"
    return f"{unit} ({unit}5 is 5)" if is_sign(unit) else unit
