"""Releases by their labels."""

from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.errors import NotFound


def find_release(books: BooksReader, label: str) -> Release:
    """Return the release with a label such as `flights/3`, or with an id; for a name, the newest release.

    Raises
    ------
    NotFound
        if there is no such release.
    """
    name, slash, version = label.partition("/")
    if slash and not version:
        raise NotFound(
            f"the release {label!r} has no version", "write it as `NAME/3`; list the releases: `tidemill models list`"
        )
    if version.isdecimal():
        releases = books.releases.find(name=name, version=int(version), limit=1)
    else:
        releases = [] if slash else books.releases.find(name=name)
    if releases:
        return max(releases, key=lambda release: release.version)
    try:
        return books.releases.get(label)
    except NotFound:
        raise NotFound(f"release {label!r} does not exist", "list the releases: `tidemill models list`") from None
