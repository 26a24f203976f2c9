"""Finds the line of a key or a table in a TOML file."""

import re

_HEADER = re.compile(r"\s*(\[\[?)([^\]]+)\]")
_ASSIGNED = re.compile(r"\s*([\w.\"-]+)\s*=")
_KEY = re.compile(r"[\w-]+")


def find_line(text: str, paths: list[list[str]]) -> int | None:
    """Return the line of the key at one of the paths, else of the innermost table around it or within it.

    A step of a path is a name, `[...]` for any name, or `[0]` for an index in an array.
    """
    table: list[str] = []
    indices: dict[tuple[str, ...], int] = {}
    longest, line = 0, None
    for number, row in enumerate(text.splitlines(), 1):
        path_of_row = table
        if header := _HEADER.match(row):
            path_of_row = table = _KEY.findall(header[2])
            if header[1] == "[[":
                index = indices[tuple(table)] = indices.get(tuple(table), -1) + 1
                path_of_row = table = [*table, f"[{index}]"]
        elif assigned := _ASSIGNED.match(row):
            path_of_row = table + _KEY.findall(assigned[1])
        for path in paths:
            matches = all(step in (key, "[...]") for step, key in zip(path, path_of_row, strict=False))
            if matches and longest < min(len(path_of_row), len(path)):
                longest, line = min(len(path_of_row), len(path)), number
    return line
