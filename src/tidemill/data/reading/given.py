"""What a person knows about how a file is written."""

from collections.abc import Mapping

from msgspec import Struct


class GivenDialect(Struct, frozen=True, kw_only=True):
    """What a person knows about a file; None or empty where the file decides.

    `date_formats` has a format for each column, and for `""` the format of every column that it fits. An
    empty `header` names the columns by their positions. A file with the `label` as a name has a header. The columns in
    `times` must be times; those in `ignored` are not examined.
    """

    separator: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    nulls: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    date_formats: Mapping[str, str] = {}
    units: Mapping[str, str] = {}
    skip_lines: int | None = None
    header: tuple[str, ...] | None = None
    trim: bool | None = None
    label: str = ""
    times: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
