"""What the commands print: tables for people, one JSON value for machines; progress and errors go to stderr."""

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

Style = Literal["", "bold", "dim", "red", "yellow"]
_MIN_WIDTH, _PIPE_WIDTH = 60, 120
_LONG_TEXT, _FOLDED_TEXT, _COLUMN_GAP = 40, 24, 2


class Screen:
    """Prints text as it is, styled where a terminal shows it; Rich is loaded by those who draw more than lines."""

    def __init__(self, *, errors: bool) -> None:
        self._errors = errors

    def print(self, text: object = "", *, style: Style = "", end: str = "\n") -> None:
        """Print a text."""
        styles: dict[str, Any] = {style: True} if style in ("bold", "dim") else {"fg": style}
        shown = typer.style(str(text), **styles) if style else str(text)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        typer.echo(f"{shown}{end}", err=self._errors, nl=False, color=False if plain else None)


out = Screen(errors=False)
err = Screen(errors=True)


def as_json(value: Any) -> None:
    """One JSON value on stdout, and nothing else there."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def records(found: Sequence[msgspec.Struct], columns: dict[str, Any], *, json: bool, nothing: str) -> None:
    """A list of records: all of each as JSON, or the named columns as a table."""
    if json:
        as_json(list(found))
        return
    if not found:
        err.print(nothing)
        return
    table(tuple(columns), ([cell(show(record)) for show in columns.values()] for record in found))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, indent: int = 0) -> None:
    """Print aligned columns under their names, without names if `columns` is empty.

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
    console = Console(markup=False, emoji=False, highlight=False, width=max(screen_width(), needed))
    console.print(Padding(drawn, (0, 0, 0, indent), expand=False))


def screen_width() -> int:
    """Return the number of columns of the terminal, or a fixed number in a pipe."""
    return max(_MIN_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _PIPE_WIDTH


def record(found: msgspec.Struct, *, json: bool) -> None:
    """One record, whole."""
    if json:
        as_json(found)
        return
    for name, value in msgspec.to_builtins(found, builtin_types=(datetime,)).items():
        if value not in (None, "", {}, [], ()):
            out.print(name, style="bold", end="")
            out.print(_indented(value))


def _indented(value: Any, depth: int = 1) -> str:
    if isinstance(value, dict):
        return "".join(
            f"\n{'  ' * depth}{name}: {_indented(inner, depth + 1).lstrip()}" for name, inner in value.items()
        )
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return "".join(f"\n{'  ' * depth}-{_indented(inner, depth + 1)}" for inner in value)
    return f"  {cell(value)}"


def write(file: Path, text: str) -> None:
    """Write a file that somebody asked for, and say so; raises `InputError` where it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as refused:
        raise InputError(f"{file} cannot be written: {refused.strerror}", "choose a file that you may write") from None
    err.print(f"wrote {file}")


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set):
        return ", ".join(cell(one) for one in value)
    return str(value)


def short(identifier: str) -> str:
    """The part of an id that people type."""
    return identifier[:18]
