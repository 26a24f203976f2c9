"""Learns the dialect of a file once, for `init`: what the file shows is reported, what it does not show is asked."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.core.columns import require_usable_names
from tidemill.core.dialect import Dialect
from tidemill.data.keys import count_values
from tidemill.data.reading.content import read_content, split_suffix
from tidemill.data.reading.conventions import find_convention
from tidemill.data.reading.dates import (
    UNITS,
    find_common_format,
    find_compact_format,
    find_format_of_times,
    find_formats,
    find_unix_unit,
    find_unreadable_times,
    parse_format,
    require_format,
)
from tidemill.data.reading.delimited import parse_delimited
from tidemill.data.reading.encodings import detect_encoding, require_encoding, to_utf8
from tidemill.data.reading.given import GivenDialect
from tidemill.data.reading.layout import find_default_separator
from tidemill.data.reading.layout_learning import learn_layout
from tidemill.data.reading.unit_learning import explain_unit, learn_units, strip_units
from tidemill.data.reading.values import (
    NULLS_OF_VALUES,
    nullify,
    number_grammar,
    type_column,
    type_typed_columns,
)
from tidemill.data.tables import explain_panic, find_format, read_typed, require_file
from tidemill.data.timestamps import parse_times
from tidemill.data.types import CODE
from tidemill.errors import DataError, InputError

_NEARLY_ALL = 0.95
_SHOWN = 5
_EXAMINED = 1_000
_ZONES_EXAMINED = 100_000
_COUNTRIES = 5


class LearnedTable(Struct, frozen=True, kw_only=True):
    """The typed rows of a file, its dialect, facts about it, and for each column the texts that are null, counted."""

    frame: pl.DataFrame
    dialect: Dialect
    facts: tuple[str, ...] = ()
    nulls: dict[str, dict[str, int]] = {}


_NOTHING = GivenDialect()


def learn_table(path: Path, given: GivenDialect = _NOTHING, *, ask: bool = True) -> LearnedTable:
    """Return the rows of a file with the dialect that it shows; what is `given` is not learned.

    Without `ask`, a column that could be two things is text.

    Raises
    ------
    DataError
        if the file cannot be read; with `ask`, if a column has numbers and a few other values, or dates whose day
        may be the month, or if the encoding is uncertain: the cure is the option that decides.
    """
    require_file(path)
    try:
        return _learn(path, str(path), given, ask=ask)
    except pl.exceptions.PanicException as error:
        raise explain_panic(str(path), error) from None


def _learn(path: Path, name: str, given: GivenDialect, *, ask: bool) -> LearnedTable:
    kind = find_format(name)
    learner = _Learner(name, given, ask)
    if kind == "csv":
        raw = read_content(path, name)
        encoding = detect_encoding(raw, name) if given.encoding is None else require_encoding(given.encoding)
        content = to_utf8(raw, encoding, name)
        default = find_default_separator(split_suffix(name))
        separator, layout = learn_layout(content, name, default, given)
        rows = parse_delimited(content, separator, name, layout)
        learned = learner.learn_text(
            rows, separator, replace(layout, separator="" if separator == default else separator, encoding=encoding)
        )
    else:
        rows = read_typed(path, name, kind, Dialect(encoding=given.encoding or ""))
        learned = learner.learn_typed(rows, infer=kind != "parquet")
    if learned.frame.is_empty():
        raise DataError(f"{name} has no rows", "use a file with rows")
    return learned


class _Learner:
    def __init__(self, name: str, given: GivenDialect, ask: bool) -> None:
        self._name = name
        self._given = given
        self._ask = ask
        self._facts: list[str] = []
        for form in given.date_formats.values():
            require_format(form)

    def learn_text(self, rows: pl.DataFrame, separator: str, dialect: Dialect) -> LearnedTable:
        """Learn from columns of text."""
        given = self._given
        require_usable_names(rows.columns, self._name)
        self._require_columns(rows.columns)
        dialect = replace(dialect, nulls=given.nulls, texts=given.texts)
        examined = [rows[name] for name in rows.columns if name not in (*given.texts, *given.ignored)]
        units = self._learn_units(examined, dialect)
        dialect = replace(dialect, units=units)
        examined = [strip_units(values, dialect) for values in examined]
        # A comma as the separator is the sign of a country in which the decimal separator is a point.
        ask = self._ask and separator != ","
        decimal, thousands = find_convention(examined, dialect, given.decimal, given.thousands, ask=ask)
        dialect = replace(dialect, decimal=decimal, thousands=thousands)
        typed = {values.name: type_column(values, dialect) for values in rows}
        self._require_numbers(rows, typed, dialect)
        texts = [rows[name] for name, values in typed.items() if values.dtype == pl.String]
        dialect = replace(dialect, date_formats=self._find_date_formats(texts, typed, dialect))
        codes = self._find_codes(texts, dialect)
        words = _find_words(rows, typed)
        dialect = replace(dialect, nulls=tuple(dict.fromkeys((*dialect.nulls, *words))), texts=(*dialect.texts, *codes))
        again = [values.name for values in texts] + list(dialect.date_formats)
        typed |= {name: type_column(rows[name], dialect) for name in dict.fromkeys(again)}
        frame = pl.DataFrame(list(typed.values()))
        self._facts += [fact for name, values in typed.items() if (fact := _explain_zones(rows[name], values))]
        self._describe(dialect, separator)
        self._propose_times(frame)
        return LearnedTable(frame=frame, dialect=dialect, facts=tuple(self._facts), nulls=_count_nulls(rows, frame))

    def learn_typed(self, rows: pl.DataFrame, *, infer: bool) -> LearnedTable:
        """Learn from columns of a format with types."""
        given = self._given
        require_usable_names(rows.columns, self._name)
        self._require_columns(rows.columns)
        dialect = Dialect(nulls=given.nulls, texts=given.texts, encoding=given.encoding or "")
        if infer:
            texts = [values for values in rows if values.dtype == pl.String and values.name not in given.ignored]
            units = self._learn_units(texts, dialect)
            numbers = [strip_units(rows[name], replace(dialect, units=units)) for name in units]
            decimal, thousands = find_convention(numbers, dialect, given.decimal, given.thousands, ask=self._ask)
            dialect = replace(dialect, units=units, decimal=decimal, thousands=thousands)
        frame = type_typed_columns(rows, dialect, infer=infer)
        self._require_numbers(rows, {values.name: values for values in frame}, dialect)
        texts = [rows[name] for name, values in zip(frame.columns, frame, strict=True) if values.dtype == pl.String]
        typed = {values.name: values for values in frame}
        formats = self._find_date_formats(texts if infer else [], typed, dialect)
        dialect = replace(dialect, date_formats=formats)
        frame = type_typed_columns(rows, dialect, infer=infer)
        self._describe(dialect, "")
        self._propose_times(frame)
        return LearnedTable(frame=frame, dialect=dialect, facts=tuple(self._facts), nulls=_count_nulls(rows, frame))

    def _require_columns(self, columns: list[str]) -> None:
        for name in (*self._given.texts, *filter(None, self._given.date_formats), *self._given.units):
            if name not in columns:
                raise InputError(f"the table has no column {name!r}", f"its columns are: {', '.join(columns)}")

    def _learn_units(self, columns: Iterable[pl.Series], dialect: Dialect) -> dict[str, str]:
        given = self._given.units
        others = [values for values in columns if values.name not in given and values.name not in self._given.texts]
        units, facts = learn_units(others, dialect, ask=self._ask)
        self._facts += facts
        return {**given, **units}

    def _require_numbers(self, rows: pl.DataFrame, typed: Mapping[str, pl.Series], dialect: Dialect) -> None:
        """Raise `InputError` if a column with a given unit is not a column of numbers."""
        for name, unit in self._given.units.items():
            if typed[name].is_empty() or typed[name].dtype.is_numeric():
                continue
            kept = strip_units(rows[name], dialect)
            wrong = rows[name].filter(
                ~kept.str.contains(number_grammar(dialect.decimal, dialect.thousands)).fill_null(False)
            )
            raise InputError(
                f"column {name!r} has values that are no numbers with the unit {unit}, such as "
                f"{wrong.drop_nulls()[0]!r}",
                "use the unit of its values, or name texts that mean null with --null",
            )

    def _find_date_formats(
        self, texts: Iterable[pl.Series], typed: Mapping[str, pl.Series], dialect: Dialect
    ) -> dict[str, str]:
        """Return the formats of the columns with dates, and require that other columns of text are text."""
        given = self._given
        formats = {name: form for name, form in given.date_formats.items() if name}
        for name, form in formats.items():
            self._require_fit(typed[name], form, dialect)
        common = given.date_formats.get("", "")
        if common in UNITS:
            raise InputError(f"{common} needs a column", f"write --date-format COLUMN={common}")
        used = False
        for values in texts:
            name = values.name
            if name in formats or name in given.texts or name in given.ignored:
                continue
            kept = nullify(values, dialect).drop_nulls()
            if common and len(kept) and not parse_format(kept, common).null_count():
                formats[name], used = common, True
                continue
            if form := self._choose_format(kept):
                formats[name] = form
            elif self._ask:
                _require_text(kept, dialect)
        if common and not used:
            raise InputError(f"no column has dates of the format {common}", "check the format, or remove --date-format")
        return formats

    def _require_fit(self, values: pl.Series, form: str, dialect: Dialect) -> None:
        kept = (nullify(values, dialect) if values.dtype == pl.String else values).drop_nulls()
        if kept.dtype.is_temporal():
            raise InputError(f"column {values.name!r} has dates or times already", "remove its --date-format")
        if kept.dtype != pl.String and form not in UNITS:
            kept = kept.cast(pl.String)
        wrong = kept.filter(parse_format(kept, form).is_null())
        if len(wrong):
            raise InputError(
                f"column {values.name!r} has {len(wrong)} values without the format {form}, such as {wrong[0]!r}",
                "use the format of its values, or name texts that mean null with --null",
            )

    def _choose_format(self, kept: pl.Series) -> str:
        """Return the only format of a column of dates, or an empty text; ask where several formats fit."""
        fitting = find_formats(kept)
        if len(fitting) == 1 and "%y" not in fitting[0]:
            return fitting[0]
        if not fitting or not self._ask:
            return ""
        flags = " or ".join(f"--date-format {shlex.quote(f'{kept.name}={form}')}" for form in fitting)
        raise DataError(
            f"column {kept.name!r} has dates such as {kept[0]}, and it is not certain which part is the day, "
            "the month and the year",
            f"add {flags}; to keep it as text, add --text {shlex.quote(kept.name)}",
        )

    def _find_codes(self, texts: Iterable[pl.Series], dialect: Dialect) -> list[str]:
        """Return the columns of two-letter codes among which NA is one, such as countries; report codes with zeros."""
        found = []
        for values in texts:
            known = values.drop_nulls()
            if known.str.contains(CODE).any() and known.str.contains(number_grammar(".", "")).all():
                self._facts.append(f"column {values.name!r} is text: as numbers its codes would lose digits")
            distinct = known.unique()
            others = distinct.filter(distinct != "NA")
            is_code = others.str.contains(r"^[A-Z]{2}$").all() and len(others) >= _COUNTRIES
            if len(others) < len(distinct) and is_code and "NA" not in dialect.nulls:
                found.append(values.name)
                self._facts.append(
                    f"column {values.name!r} is text, also 'NA' ({(known == 'NA').sum()} rows), a code like the others "
                    "(--null NA makes it null)"
                )
        return found

    def _describe(self, dialect: Dialect, separator: str) -> None:
        facts = {
            "separator": repr(separator) if dialect.separator else "",
            "lines before the header": str(dialect.skip_lines or ""),
            "no header": f"the columns are {', '.join(dialect.header[:_SHOWN])}" if dialect.header else "",
            "spaces around names and values": "removed" if dialect.trim else "",
            "encoding": dialect.encoding,
            "decimal separator": repr(dialect.decimal) if dialect.decimal != "." else "",
            "thousands separator": repr(dialect.thousands) if dialect.thousands else "",
        }
        learned = [f"{name}: {value}" for name, value in facts.items() if value]
        learned += [f"dates of {name!r}: {form}" for name, form in dialect.date_formats.items()]
        learned += [f"unit of {name!r}: {explain_unit(unit)}" for name, unit in dialect.units.items()]
        self._facts = learned + self._facts

    def _propose_times(self, frame: pl.DataFrame) -> None:
        for values in frame:
            if values.name in self._given.ignored:
                continue
            if values.name in self._given.times:
                _require_times(values)
            elif values.dtype.is_integer():
                unit = find_unix_unit(values.drop_nulls()) or find_compact_format(values.drop_nulls())
                if unit:
                    option = f"--date-format {shlex.quote(f'{values.name}={unit}')}"
                    self._facts.append(
                        f"column {values.name!r} is read as integers; if they are dates or times, add {option}"
                    )


def _require_times(values: pl.Series) -> None:
    """Raise `InputError` if a column that should be the event time has no times: no batch would be accepted."""
    known = values.drop_nulls()
    if values.dtype.is_temporal() or known.is_empty():
        return
    wrong = known.filter(_read_times(known).is_null()) if known.dtype == pl.String else known
    if wrong.is_empty():
        return
    what = "integers" if known.dtype.is_integer() else "numbers" if known.dtype.is_numeric() else "texts"
    form = find_format_of_times(known)
    raise InputError(
        f"column {values.name!r} has {what}, not times, such as {wrong[0]!r}",
        f"if they are times, add --date-format {shlex.quote(f'{values.name}={form}')}"
        if form
        else "write times in the file as 2013-01-31T14:05:06+01:00, name their form with --date-format, or choose "
        "another column with --time",
    )


def _require_text(kept: pl.Series, dialect: Dialect) -> None:
    """Raise `DataError` if nearly all values of a column are numbers or times: the others are probably nulls."""
    if kept.is_empty():
        return
    if not kept.str.contains(CODE).any():
        is_number = strip_units(kept, dialect).str.contains(number_grammar(dialect.decimal, dialect.thousands))
        _require_alike(kept, is_number.fill_null(value=False), "numbers")
    form = find_common_format(kept.head(_EXAMINED), _NEARLY_ALL)
    read = _read_iso(kept) if not form else parse_format(kept, form)
    _require_alike(kept, read.is_not_null(), "dates")
    unreadable = find_unreadable_times(kept.filter(read.is_null()), _NEARLY_ALL)
    if len(unreadable):
        raise DataError(
            f"column {kept.name!r} has times in a form that is unknown, such as {unreadable[0]!r}",
            "write them in the file as 2013-01-31T14:05:06+01:00, or name their form with --date-format; to keep the "
            f"column as text, add --text {shlex.quote(kept.name)}",
        )


def _explain_zones(text: pl.Series, typed: pl.Series) -> str:
    """Return a fact about a column in which only some times have a zone, or an empty text."""
    if not isinstance(typed.dtype, pl.Datetime):
        return ""
    known = text.filter(typed.is_not_null()).head(_ZONES_EXAMINED)
    zoned = known.str.contains(r":.*(?:Z|z|UTC|[+-][0-9]{2}:?[0-9]{0,2})$").sum()
    if zoned in (0, len(known)):
        return ""
    return f"column {text.name!r} has times with a zone ({zoned:,}) and without ({len(known) - zoned:,}): these are UTC"


def _read_iso(kept: pl.Series) -> pl.Series:
    if _read_times(kept.head(_EXAMINED)).null_count() > (1 - _NEARLY_ALL) * min(len(kept), _EXAMINED):
        return pl.Series([None] * len(kept))
    return _read_times(kept)


def _read_times(values: pl.Series) -> pl.Series:
    return values.to_frame().select(parse_times(pl.col(values.name)))[values.name]


def _require_alike(kept: pl.Series, is_alike: pl.Series, noun: str) -> None:
    """Raise `DataError` if nearly all values are of one kind, with the others and the options that decide."""
    others = kept.filter(~is_alike)
    if not len(others) or is_alike.sum() < _NEARLY_ALL * len(kept):
        return
    distinct = others.unique(maintain_order=True).to_list()
    shown = ", ".join(map(repr, distinct[:_SHOWN])) + (", …" if len(distinct) > _SHOWN else "")
    plural = "" if len(others) == 1 else "s"
    text = f"--text {shlex.quote(kept.name)}"
    flags = " ".join(f"--null {shlex.quote(value)}" for value in distinct)
    missing = f"if they mean that the value is missing, add {flags}; " if len(distinct) <= _SHOWN else ""
    raise DataError(
        f"column {kept.name!r} has {is_alike.sum():,} {noun} and {len(others):,} other value{plural}: {shown}",
        f"{missing}to keep the column as text, add {text}",
    )


def _find_words(rows: pl.DataFrame, typed: Mapping[str, pl.Series]) -> list[str]:
    """Return the texts that are null in a column of numbers or times, and could be words in a column of text."""
    found: dict[str, None] = {}
    for name, values in typed.items():
        if values.dtype != pl.String:
            nulls = rows[name].filter(values.is_null()).drop_nulls().unique().str.strip_chars().to_list()
            found |= dict.fromkeys(word for word in NULLS_OF_VALUES if word and word in nulls)
    return list(found)


def _count_nulls(rows: pl.DataFrame, frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return, for each column, the texts that became null, with their counts."""
    counts = {}
    for values in rows:
        if values.dtype == pl.String and frame[values.name].null_count() > values.null_count():
            nulls = values.filter(frame[values.name].is_null())
            counts[values.name] = {str(text): int(count) for text, count in count_values(nulls).rows()}
    return counts
