"""Releases by their labels."""

from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.errors import NotFound


def find_release(books: BooksReader, label: str) -> Release:
    """The release of a label such as `flights/3` (or of its id); of a name alone, the newest.

    Raises
    ------
    NotFound
        if there is none.
    """
    name, slash, version = label.partition("/")
    if slash and not version:
        raise NotFound(
            f"there is no release: {label!r} names no version", "write it as `NAME/3`; `tidemill models list` has them"
        )
    if version.isdecimal():
        found = books.releases.find(name=name, version=int(version), limit=1)
    else:
        found = [] if slash else books.releases.find(name=name)
    if found:
        return max(found, key=lambda release: release.version)
    try:
        return books.releases.get(label)
    except NotFound:
        raise NotFound(f"there is no release {label!r}", "list them: `tidemill models list`") from None
