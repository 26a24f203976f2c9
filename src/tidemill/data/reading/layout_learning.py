"""Learns the layout of a text file: the separator, the lines before the header, the header and the spaces."""

from tidemill.core.dialect import Dialect
from tidemill.data.reading.given import GivenDialect
from tidemill.data.reading.layout import (
    Layout,
    detect_layout,
    find_preamble,
    find_spaces,
    looks_like_row,
    normalize_line_ends,
    read_head,
    skip_first_lines,
)
from tidemill.errors import DataError

_SHOWN = 5


def learn_layout(content: bytes, name: str, default: str, given: GivenDialect) -> tuple[str, Dialect]:
    """Return the separator, and a dialect with the lines before the header, the header and the spaces.

    Raises
    ------
    DataError
        if the file seems to have no header, and nothing is given about it.
    """
    body = normalize_line_ends(content)
    skipped = given.skip_lines or 0
    if given.separator is not None:
        layout = Layout(given.separator, find_preamble(body, given.separator))
    else:
        layout = detect_layout(content if not skipped else skip_first_lines(body, skipped), default)
    skipped = layout.skip_lines if given.skip_lines is None and given.header is None else skipped
    separator, rest = layout.separator, skip_first_lines(body, skipped)
    first = next((record.values for record in read_head(rest, separator)), [])
    names = given.header
    if names == ():
        names = tuple(f"column_{position}" for position in range(1, len(first) + 1))
    if (
        names is None
        and looks_like_row(first)
        and given.label
        and given.label not in [value.strip() for value in first]
    ):
        shown = ", ".join(value.strip() for value in first[:_SHOWN]) + (", …" if len(first) > _SHOWN else "")
        raise DataError(
            f"{name} seems to have no header: its first line is {shown}",
            f"add --header with its {len(first)} names, separated by commas, or --no-header for the names column_1 to "
            f"column_{len(first)}, and --label with one of them",
        )
    trim = find_spaces(rest, separator) if given.trim is None else given.trim
    return separator, Dialect(skip_lines=skipped, header=names or (), trim=trim)
