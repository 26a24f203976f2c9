"""Values of text columns: nulls, numbers, booleans, dates and times become typed columns without loss."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

import polars as pl

from tidemill.core.dialect import Dialect
from tidemill.core.schema import ColumnType
from tidemill.data.reading.dates import UNITS, parse_format
from tidemill.data.reading.units import strip_unit
from tidemill.data.timestamps import parse_days, parse_times
from tidemill.data.types import CODE
from tidemill.errors import Unreadable

NULLS = ("NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "NULL", "null", "\\N")
"""Texts that are null in every column."""
NULLS_OF_VALUES = ("None", "none", "NONE", "Null", "na", "-NaN", "-nan", "-", "--", "–", "—", "?", ".", "..", "")
"""Texts that are null in a column of numbers, booleans or times; in a column of text they may be words."""

_LIKE_A_TIME = re.compile(r"^\d{4}[-/]\d\d[-/]\d\d")
Convert = Callable[[pl.Series, Dialect], pl.Series | None]
_SPACES = " \u00a0\u202f\u2009"
_INTEGER = r"^[+-]?[0-9]+$"
_MATCH_CODE, _MATCH_INTEGER = (re.compile(pattern.replace("$", r"\Z")).match for pattern in (CODE, _INTEGER))
_FEW = 100  # values: a loop in Python is much faster than the engine of Polars


def type_columns(frame: pl.DataFrame, dialect: Dialect, types: Mapping[str, ColumnType] | None = None) -> pl.DataFrame:
    """Return columns of text as typed columns.

    A column becomes integers, numbers, booleans, dates or times if all its values are such, and nothing of them is
    lost: codes with leading zeros stay text. The columns in `types` have a declared type: text stays text, and a column
    with values that do not fit another type stays text, with numbers and times in their standard form, so that a check
    can name the values.
    """
    known = types or {}
    return pl.DataFrame([type_column(values, dialect, known.get(values.name)) for values in frame])


def type_column(values: pl.Series, dialect: Dialect, kind: ColumnType | None = None) -> pl.Series:
    """Return a column of text as a typed column, as `type_columns` does."""
    if values.name in dialect.texts:
        return values
    if kind in ("text", "nested"):
        return to_text(values, dialect)
    typed = None
    if form := dialect.date_formats.get(values.name):
        typed = to_formatted_times(values, form, dialect)
        return standardize_times(values, form, dialect) if typed is None else typed
    sample = _take_sample(values)
    if sample.null_count() == len(sample):
        return values
    if kind == "boolean" and (booleans := _to_declared_booleans(values, dialect)) is not None:
        return booleans
    for convert in (to_numbers, to_booleans, to_times):
        # Most columns of text are none of these, and a sample shows it.
        is_unlike = len(values) > len(sample) and _is_unlike(sample, convert, dialect)
        typed = None if is_unlike else convert(values, dialect)
        if typed is not None:
            return typed
    if kind is None or kind == "boolean":
        return to_text(values, dialect)
    return standardize_numbers(values, dialect) if kind in ("integer", "number") else nullify(values, dialect)


def _take_sample(values: pl.Series) -> pl.Series:
    """Return some values, among them a value that is not null if there is one."""
    if len(values) <= _SAMPLE:
        return values
    sample = pl.concat([values.head(_SAMPLE), values.tail(_SAMPLE)])
    return sample if sample.null_count() < len(sample) else values.drop_nulls().head(_SAMPLE)


_SAMPLE = 500
_USUAL_LENGTHS = (19, 20)
_FOREIGN = {  # numbers with other separators
    ".": r"^[+-]?[0-9][0-9.]*,[0-9]+$",
    ",": r"^[+-]?[0-9][0-9,]*\.[0-9]+$",
}
_USUAL = {
    " ": "%Y-%m-%d %H:%M:%S",
    "T": "%Y-%m-%dT%H:%M:%S",
    "TZ": "%Y-%m-%dT%H:%M:%SZ",
}  # much faster than the general grammar


def _is_unlike(sample: pl.Series, convert: Convert, dialect: Dialect) -> bool:
    """Return whether a sample shows that a column cannot be converted; nulls alone show nothing."""
    kept = nullify(sample, dialect)
    return kept.null_count() < len(kept) and convert(sample, dialect) is None


def to_text(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return text without the texts that are null in every column."""
    return _without(values, [*NULLS, *dialect.nulls])


def nullify(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return text without the texts that are null in a column of numbers or times, and without spaces around it."""
    if len(values) > _FEW:
        return _without(values.str.strip_chars(_SPACES), list_nulls(dialect))
    texts = values.to_list()
    kept = [None if text is None else text.strip(_SPACES) for text in texts]
    return _without(values if kept == texts else pl.Series(values.name, kept, dtype=pl.String), list_nulls(dialect))


def list_nulls(dialect: Dialect) -> list[str]:
    """Return the texts that are null in a column of numbers, booleans or times."""
    return [*NULLS, *NULLS_OF_VALUES, *dialect.nulls]


def _without(values: pl.Series, words: Collection[str]) -> pl.Series:
    if len(values) <= _FEW and not any(text in words for text in values.to_list()):
        return values
    is_null = values.is_in(list(words))
    return values.set(is_null, None) if is_null.any() else values


def to_numbers(values: pl.Series, dialect: Dialect) -> pl.Series | None:
    """Return a column of integers or numbers, or None if a value is not one or would lose digits."""
    numbers = _cast_numbers(values, _to_plain_numbers(values, dialect))
    # NaN is a null, with which a column of integers would be one of floats.
    if numbers is not None and numbers.null_count() == values.null_count():
        return numbers
    kept = nullify(values, dialect)
    return _cast_numbers(kept, _to_plain_numbers(kept, dialect))


def _cast_numbers(kept: pl.Series, text: pl.Series) -> pl.Series | None:
    if text.null_count() > kept.null_count():
        return None
    for dtype in (pl.Int64, pl.Float64):
        numbers = text.cast(dtype, strict=False)
        if numbers.null_count() == text.null_count():
            break
    else:
        return None
    if numbers.null_count() == len(numbers):
        return None
    if len(text) <= _FEW:
        return _cast_few(text, numbers)
    if text.str.contains(CODE).any():
        return None
    if numbers.dtype == pl.Float64:
        if text.head(_SAMPLE).str.contains(_INTEGER).all() and text.str.contains(_INTEGER).all():
            return None  # identifiers with more digits than an integer has
        return numbers.fill_nan(None)
    return numbers


def _cast_few(text: pl.Series, numbers: pl.Series) -> pl.Series | None:
    """Do the same for few values, whose columns are much faster in Python."""
    texts = [value for value in text.to_list() if value is not None]
    if any(map(_MATCH_CODE, texts)):
        return None
    if numbers.dtype == pl.Float64:
        if all(map(_MATCH_INTEGER, texts)):
            return None
        return numbers.fill_nan(None) if any(value != value for value in numbers.to_list()) else numbers
    return numbers


def _to_plain_numbers(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return numbers in the standard form; null if a text is not a number of the dialect."""
    if unit := dialect.units.get(values.name):
        values = strip_unit(values, unit)
    if dialect.decimal == "." and not dialect.thousands:
        return values
    grammar = number_grammar(dialect.decimal, dialect.thousands)
    matched = values.set(~values.str.contains(grammar), None)
    for sign in _thousands_signs(dialect.thousands):
        matched = matched.str.replace_all(sign, "", literal=True)
    return matched.str.replace(",", ".", literal=True) if dialect.decimal == "," else matched


def _thousands_signs(thousands: str) -> str:
    return _SPACES if thousands == " " else "'’" if thousands == "'" else thousands


@lru_cache
def number_grammar(decimal: str, thousands: str) -> str:
    """Return the regular expression of a number with these separators."""
    groups = f"[1-9][0-9]{{0,2}}(?:[{re.escape(_thousands_signs(thousands))}][0-9]{{3}})+|" if thousands else ""
    point = re.escape(decimal)
    return rf"^[+-]?(?:(?:{groups}[0-9]+)(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?$"


def standardize_numbers(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return text in which the numbers have the standard form; other texts are unchanged, and nulls are null.

    Raises
    ------
    Unreadable
        if values have the decimal separator of another dialect: 1.234 would become another number.
    """
    kept = nullify(values, dialect)
    plain = _to_plain_numbers(kept, dialect)
    refused = kept.filter(plain.is_null())
    _require_unit(refused, dialect)
    foreign = refused.filter(refused.str.contains(_FOREIGN[dialect.decimal])).drop_nulls()
    if len(foreign):
        expected = f"decimal = {dialect.decimal!r}"
        expected += f" and thousands = {dialect.thousands!r}" if dialect.thousands else ""
        raise Unreadable(
            f"column {values.name!r} has numbers such as {foreign[0]}, but its source has {expected}",
            "write the numbers as in the other files; if all files have such numbers, correct `decimal` and "
            "`thousands` of the source in tidemill.toml",
        )
    return plain.fill_null(kept)


def _require_unit(refused: pl.Series, dialect: Dialect) -> None:
    """Raise `Unreadable` if one of the refused values is a number without the percent sign of its column."""
    unit = dialect.units.get(refused.name, "")
    without = refused.drop_nulls()
    without = without.filter(without.str.contains(number_grammar(dialect.decimal, dialect.thousands)))
    if unit and len(without):
        raise Unreadable(
            f"column {refused.name!r} has numbers such as {without[0]}, but its source has the unit {unit} for it",
            f"write the numbers with {unit}, as in the other files; if all files have such numbers, remove the column "
            "from `units` of the source in tidemill.toml",
        )


def to_booleans(values: pl.Series, dialect: Dialect) -> pl.Series | None:
    """Return a column of booleans, or None if a value is not true or false, in any case."""
    kept = nullify(values, dialect)
    if len(kept) <= _FEW and any(text and text.lower() not in ("true", "false") for text in kept.to_list()):
        return None
    kept = kept.str.to_lowercase()
    if kept.null_count() == len(kept) or not kept.drop_nulls().is_in(["true", "false"]).all():
        return None
    return kept == "true"


def _to_declared_booleans(values: pl.Series, dialect: Dialect) -> pl.Series | None:
    """Return a column that is declared as booleans, or None if a value is no usual writing of true or false."""
    kept = nullify(values, dialect).str.to_lowercase()
    known = kept.drop_nulls()
    if known.is_empty() or not known.is_in([*_TRUE, *_FALSE]).all():
        return None
    return kept.is_in(list(_TRUE)).set(kept.is_null(), None)


_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")


def to_times(values: pl.Series, dialect: Dialect) -> pl.Series | None:
    """Return a column of dates or times in UTC, or None if a value is not one of ISO 8601."""
    kept = nullify(values, dialect)
    sample = (kept.drop_nulls() if kept.null_count() else kept).head(_SAMPLE)
    if sample.is_empty() or not _LIKE_A_TIME.match(sample[0]):
        return None
    form = _USUAL.get(sample[0][10:11] + sample[0][19:])
    if form and len(sample[0]) in _USUAL_LENGTHS and _have_length(kept, len(sample[0])):
        usual = kept.str.to_datetime(form, time_unit="us", strict=False)
        if usual.null_count() == kept.null_count():
            return usual.dt.replace_time_zone("UTC")
    for read in (parse_days, parse_times):
        if _apply(read, sample).null_count():
            continue
        typed = _apply(read, kept)
        if typed.null_count() == kept.null_count():
            return typed
    return None


def _have_length(values: pl.Series, length: int) -> bool:
    if len(values) <= _FEW:
        return all(text is None or len(text.encode()) == length for text in values.to_list())
    return bool((values.str.len_bytes() == length).all())


def _apply(read: Callable[[pl.Expr], pl.Expr], values: pl.Series) -> pl.Series:
    return values.to_frame().select(read(pl.col(values.name)))[values.name]


def to_formatted_times(values: pl.Series, form: str, dialect: Dialect) -> pl.Series | None:
    """Return a column of dates or times in a declared format, or None if a value has another."""
    kept = nullify(values, dialect)
    typed = parse_format(kept, form)
    return typed if typed.null_count() == kept.null_count() else None


def standardize_times(values: pl.Series, form: str, dialect: Dialect) -> pl.Series:
    """Return text in which the times of a declared format are ISO 8601; other texts are unchanged."""
    kept = nullify(values, dialect)
    typed = parse_format(kept, form)
    read = typed.dt.to_string("iso:strict" if typed.dtype != pl.Date else "%Y-%m-%d")
    return read.fill_null(kept)


def type_typed_columns(
    frame: pl.DataFrame, dialect: Dialect, types: Mapping[str, ColumnType] | None = None, *, infer: bool = True
) -> pl.DataFrame:
    """Return the columns of a typed format with the declared nulls and date formats.

    With `infer`, text is also examined, because JSON and workbooks have few types: text of ISO 8601 is a date or a
    time, and a column of numbers and texts that mean null is a column of numbers.
    """
    known = types or {}
    return pl.DataFrame([_type_typed_column(values, dialect, known.get(values.name), infer) for values in frame])


def _type_typed_column(values: pl.Series, dialect: Dialect, kind: ColumnType | None, infer: bool) -> pl.Series:
    form = dialect.date_formats.get(values.name, "")
    if form and values.dtype.is_integer() and form not in UNITS:
        read = parse_format(values, form)
        return read if read.null_count() == values.null_count() else values
    if form in UNITS and values.dtype.is_numeric():
        known = values.fill_nan(None) if values.dtype.is_float() else values
        read = parse_format(known, form)
        return read if read.null_count() == known.null_count() else values
    if values.dtype != pl.String or values.name in dialect.texts:
        return values
    kept = _without(values, dialect.nulls)
    if kind == "text" or kept.null_count() == len(kept):
        return kept
    if form:
        typed = to_formatted_times(kept, form, dialect)
        return standardize_times(kept, form, dialect) if typed is None else typed
    if values.name in dialect.units:
        numbers = to_numbers(kept, dialect)
        return standardize_numbers(kept, dialect) if numbers is None else numbers
    if not infer:
        return kept
    times = to_times(kept, _PLAIN)
    if times is not None and times.null_count() == kept.null_count():
        return times
    if _without(kept, list_nulls(dialect)).null_count() > values.null_count():
        numbers = to_numbers(kept, _PLAIN)
        return kept if numbers is None else numbers
    return kept


_PLAIN = Dialect()
