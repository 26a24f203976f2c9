"""Prints tables or one JSON value to stdout, and progress and errors to stderr."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import typer

from tidemill.errors import InputError

TextStyle = Literal["", "bold", "dim", "red", "yellow"]
_MIN_WIDTH, _PIPE_WIDTH = 60, 120
_LONG_TEXT, _FOLDED_TEXT, _COLUMN_GAP = 40, 24, 2


class Screen:
    """Prints text to stdout or stderr, with styles on a terminal; it does not need Rich, which loads slowly."""

    def __init__(self, *, errors: bool) -> None:
        self._errors = errors

    def print(self, text: object = "", *, style: TextStyle = "", end: str = "\n") -> None:
        """Print a text."""
        styles: dict[str, Any] = {style: True} if style in ("bold", "dim") else {"fg": style}
        shown = typer.style(str(text), **styles) if style else str(text)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        typer.echo(f"{shown}{end}", err=self._errors, nl=False, color=False if plain else None)


out = Screen(errors=False)
err = Screen(errors=True)


def print_json(value: Any) -> None:
    """Print one JSON value to stdout."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def print_records(rows: Sequence[msgspec.Struct], columns: dict[str, Any], *, json: bool, nothing: str) -> None:
    """Print records: with all fields as JSON, or with the columns as a table."""
    if json:
        print_json(list(rows))
        return
    if not rows:
        err.print(nothing)
        return
    print_table(tuple(columns), ([format_cell(show(record)) for show in columns.values()] for record in rows))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, indent: int = 0, errors: bool = False
) -> None:
    """Print aligned columns under their names, without names if `columns` is empty; to stderr with `errors`.

    Long texts and the last column are folded at the edge of the terminal. Ids and names stay whole.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    lines = [list(map(str, row)) for row in rows]
    count = max(map(len, lines), default=len(columns))
    widths = [max(cell_len(line[index]) for line in [*lines, columns] if index < len(line)) for index in range(count)]
    folded = [index == count - 1 or width > _LONG_TEXT for index, width in enumerate(widths)]
    drawn = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(columns))
    for index, is_folded in enumerate(folded):
        header = columns[index] if columns else ""
        drawn.add_column(header, overflow="fold", no_wrap=not is_folded)
    for line in lines:
        drawn.add_row(*line)
    least = [min(width, _FOLDED_TEXT) if is_folded else width for width, is_folded in zip(widths, folded, strict=True)]
    needed = indent + sum(least) + _COLUMN_GAP * (count - 1)
    console = Console(markup=False, emoji=False, highlight=False, width=max(screen_width(), needed), stderr=errors)
    console.print(Padding(drawn, (0, 0, 0, indent), expand=False))


def screen_width() -> int:
    """Return the number of columns of the terminal, or a fixed number in a pipe."""
    return max(_MIN_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _PIPE_WIDTH


def print_record(fields: msgspec.Struct, *, json: bool) -> None:
    """Print all fields of a record."""
    if json:
        print_json(fields)
        return
    for name, value in msgspec.to_builtins(fields, builtin_types=(datetime,)).items():
        if value not in (None, "", {}, [], ()):
            out.print(name, style="bold", end="")
            out.print(_indent(value))


def _indent(value: Any, depth: int = 1) -> str:
    if isinstance(value, dict):
        return "".join(f"\n{'  ' * depth}{name}: {_indent(inner, depth + 1).lstrip()}" for name, inner in value.items())
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return "".join(f"\n{'  ' * depth}-{_indent(inner, depth + 1)}" for inner in value)
    return f"  {format_cell(value)}"


def write_file(file: Path, text: str) -> None:
    """Write a file and report it; raise `InputError` if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{file} cannot be written: {error.strerror}", "choose a file in a folder with write permission"
        ) from None
    err.print(f"wrote {file}")


def format_cell(value: Any) -> str:
    """Return a value as readable text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set):
        return ", ".join(format_cell(item) for item in value)
    return str(value)


def shorten_id(identifier: str) -> str:
    """Return the first characters of an id; they are enough to identify it."""
    return identifier[:18]
