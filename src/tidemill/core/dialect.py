"""Dialect: how the values of a source are written in its text files."""

from typing import Literal

from msgspec import Struct

COMPRESSIONS = (".gz", ".zst", ".zstd", ".bz2", ".xz")
"""The suffixes of compressed files."""


class Dialect(Struct, frozen=True, kw_only=True):
    """How values are written; the defaults are those of a UTF-8 file with `.` as the decimal separator.

    Attributes
    ----------
    separator
        The character between two values; `""` is a tab for `.tsv` and `.tab`, `|` for `.psv`, else a comma.
    encoding
        The encoding, by its Python name; `""` is UTF-8, or UTF-16 and UTF-32 with a byte order mark.
    decimal
        The decimal separator.
    thousands
        The character between groups of three digits; `""` is none.
    nulls
        Texts that are null in every column except `texts`, besides those that are always null.
    texts
        Columns that are read as text, character by character; only the empty text is null.
    date_formats
        For each column of dates or times that is not ISO 8601: its format, such as `%d.%m.%Y`, or `unix_seconds`,
        `unix_milliseconds`, `unix_microseconds` or `unix_nanoseconds`.
    units
        For each column of numbers with a unit: the text before or after its numbers, such as `$` or `%`, or `()` for
        negative numbers in parentheses.
    skip_lines
        The number of lines before the header.
    header
        The names of the columns, if the file has no header.
    trim
        Whether spaces around names and values, as after a separator, are removed.
    """

    separator: str = ""
    encoding: str = ""
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    nulls: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    date_formats: dict[str, str] = {}
    units: dict[str, str] = {}
    skip_lines: int = 0
    header: tuple[str, ...] = ()
    trim: bool = False

    @property
    def identity(self) -> tuple[tuple[str, object], ...]:
        """Return the settings that are not the defaults, for the ids of batches; empty if all are."""
        return tuple(
            (name, tuple(sorted(value.items())) if isinstance(value, dict) else value)
            for name in self.__struct_fields__
            if (value := getattr(self, name)) != getattr(_DEFAULT, name)
        )


_DEFAULT = Dialect()
