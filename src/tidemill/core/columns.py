"""The names of columns: those that Tidemill adds to the rows of a table, and those that no table can have."""

from collections.abc import Iterable

from tidemill.errors import Unreadable

PREFIX = "_tidemill_"
TIME = f"{PREFIX}time"
KNOWN_AT = f"{PREFIX}known_at"
ARRIVED = f"{PREFIX}arrived"
BATCH = f"{PREFIX}batch"
PATH = "_path"  # without the prefix: people read the file of a row in the stored tables
ROW_ID = f"{PREFIX}row_id"
ARRIVAL = f"{PREFIX}arrival"

_LONGEST = 60


def is_internal(name: str) -> bool:
    """Return whether Tidemill added a column to the rows."""
    return name.startswith(PREFIX) or name == PATH


def require_usable_names(names: Iterable[str], about: str) -> None:
    """Raise unless a table can have columns with these names; `about` names the table.

    Raises
    ------
    Unreadable
        if a name is the name of a column that Tidemill adds, is a pattern of Polars, or contains a NUL character.
    """
    for name in names:
        if problem := _find_problem(name):
            shown = repr(name) if len(name) <= _LONGEST else f"{name[:_LONGEST]!r}…"
            raise Unreadable(
                f"{about} has a column {shown}: {problem}", f"rename the column, for example to {_suggest(name)!r}"
            )


def _find_problem(name: str) -> str:
    """Return why no table can have a column with this name; empty if it can."""
    if is_internal(name):
        return f"{PATH!r} and names that begin with {PREFIX!r} are reserved for columns that Tidemill adds"
    if name == "*" or (name.startswith("^") and name.endswith("$")):
        return "Polars reads this name as a pattern of several names"
    return "a name cannot contain the NUL character" if "\0" in name else ""


def _suggest(name: str) -> str:
    plain = name.replace("\0", "").removeprefix(PREFIX).strip("^$*._" if name == PATH else "^$*.")
    return plain[:_LONGEST] if plain and not _find_problem(plain) else "column"
