"""Finds the plug-ins of other packages: one entry-point group for each kind of plug-in."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tidemill.errors import NotFound


@cache
def _find_group(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"tidemill.{kind}")}


def list_names(kind: str) -> Iterator[str]:
    """Yield the names of the plug-ins of a kind, such as engines, codecs or flavors (see `compose/backends`)."""
    yield from _find_group(kind)


def load(kind: str, name: str) -> Any:
    """Import a plug-in of a kind.

    Raises
    ------
    NotFound
        if no installed package has it.
    """
    try:
        return _find_group(kind)[name].load()
    except KeyError:
        available = ", ".join(sorted(list_names(kind))) or "none"
        raise NotFound(
            f"there is no plug-in {name!r} of the kind {kind}",
            f"install the package that has it, or use one of: {available}",
        ) from None
