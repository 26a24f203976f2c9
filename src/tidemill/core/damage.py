"""Damage: a stored object whose bytes are wrong, missing or unreadable."""

from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

DamageState = Literal[
    "damaged",  # the bytes are not those that were written
    "missing",  # the object was deleted
    "unreadable",  # the system refuses to read it
    "outdated",  # it is older than the record that it is a copy of
    "leftover",  # a process that was killed left it
]


class Damage(Struct, frozen=True, kw_only=True):
    """One damaged object of a store: its `name` in the `store`, what is wrong, and what fixes it."""

    store: str
    name: str
    state: DamageState
    problem: str
    cure: str = ""


@runtime_checkable
class Checked(Protocol):
    """A store that can verify its own bytes."""

    def check(self) -> Iterator[Damage]:
        """Read and verify everything, and yield each damaged or missing object; damaged files are set aside."""
        ...

    def damages(self) -> list[Damage]:
        """Return the damage that is known now, without reading everything."""
        ...
