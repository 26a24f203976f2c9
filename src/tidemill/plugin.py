"""Finds what other packages plug in: one entry-point group for each kind of plug."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tidemill.errors import NotFound


@cache
def _group(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"tidemill.{kind}")}


def list_names(kind: str) -> Iterator[str]:
    """The names of the plugs of a kind, such as engines, codecs, flavors or online_stores (see `compose/backends`)."""
    yield from _group(kind)


def load(kind: str, name: str) -> Any:
    """Import the plug `name` of a kind.

    Raises
    ------
    NotFound
        if no installed package offers it.
    """
    try:
        return _group(kind)[name].load()
    except KeyError:
        known = ", ".join(sorted(list_names(kind))) or "none"
        raise NotFound(
            f"no {kind} plug is called {name!r}",
            f"install the package that offers it, or use one of: {known}",
        ) from None
