"""Bounds of a Parquet file: what its footer states is checked before its rows are read."""

import mmap
import os
from pathlib import Path
from typing import Any

from tidemill.data.reading.bounds import PER_VALUE, Bounds, require_columns
from tidemill.data.reading.parquet_footer import Footer, find_footer_size, read_record, summarize_footer
from tidemill.data.reading.parquet_pages import require_pages
from tidemill.errors import Unreadable

_MB = 1_000_000
_MOST_FOOTER = 32 * _MB
_PER_FOOTER_BYTE = 200


def require_parquet_file(path: Path, bounds: Bounds | None = None, name: str = "") -> Footer:
    """Return what the footer of a file states, without reading its rows; raise as `require_parquet`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return require_parquet(content, bounds, name or str(path))


def require_parquet(content: Any, bounds: Bounds | None, name: str) -> Footer:
    """Return what the footer of a Parquet file states, in memory or mapped; the bytes are those of its pages, if more.

    Raises
    ------
    TooLarge
        if its rows are beyond the bounds.
    Unreadable
        if it has no footer, or a number of its footer or of a page is false.
    """
    size = find_footer_size(content)
    if bounds is not None and size > _MOST_FOOTER:
        raise bounds.explain_memory(name, size * _PER_FOOTER_BYTE, f"has a footer of {size:,} bytes")
    record = read_record(content)
    footer = None if record is None else summarize_footer(record)
    if record is None or footer is None:
        problem = "its footer is damaged" if size else "it has no footer"
        raise Unreadable(f"{name} cannot be read as parquet: {problem}", "copy the complete file again")
    require_columns(footer.columns, name)
    if bounds is not None and footer.rows > bounds.rows:
        raise bounds.explain_rows(name, footer.rows)
    sizes = require_pages(content, record, len(content) - 8 - size, name)
    groups = zip(footer.groups, sizes, strict=True)
    return footer._replace(
        groups=tuple(group._replace(stored_bytes=max(group.stored_bytes, size)) for group, size in groups)
    )


def require_parquet_memory(footer: Footer, bounds: Bounds | None, name: str) -> None:
    """Raise an error if all rows of a Parquet file at once are beyond the bounds, or beyond this machine."""
    needed = footer.values * PER_VALUE + footer.stored_bytes
    what = f"has {footer.values:,} values and {footer.stored_bytes:,} bytes without compression"
    if bounds is not None and needed > bounds.memory_mb * _MB:
        raise bounds.explain_memory(name, needed, what)
    if bounds is None and footer.stored_bytes + footer.values // 8 > os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    ):
        raise Unreadable(f"{name} {what}, more than the memory of this machine", "split the file")
