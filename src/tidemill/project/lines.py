"""Where in a TOML file something is said: the line of a key, or of the table around it."""

import re

_HEADER = re.compile(r"\s*(\[\[?)([^\]]+)\]")
_ASSIGNED = re.compile(r"\s*([\w.\"-]+)\s*=")
_KEY = re.compile(r"[\w-]+")


def line_of(text: str, paths: list[list[str]]) -> int | None:
    """The line that says what one of these paths leads to, or opens the innermost table around it, or one within.

    A step of a path is a name, `[...]` for any name, or `[0]` for a place in an array.
    """
    table: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    best, found = 0, None
    for number, row in enumerate(text.splitlines(), 1):
        here = table
        if header := _HEADER.match(row):
            here = table = _KEY.findall(header[2])
            if header[1] == "[[":
                place = places[tuple(table)] = places.get(tuple(table), -1) + 1
                here = table = [*table, f"[{place}]"]
        elif assigned := _ASSIGNED.match(row):
            here = table + _KEY.findall(assigned[1])
        for path in paths:
            fits = all(a in (b, "[...]") for a, b in zip(path, here, strict=False))
            if fits and best < min(len(here), len(path)):
                best, found = min(len(here), len(path)), number
    return found
