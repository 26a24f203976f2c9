"""What the commands print: tables for people, one JSON value for machines; progress and errors go to stderr."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import typer

from tidemill.errors import InputError

Style = Literal["", "bold", "dim", "red", "yellow"]


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
    table(columns, ([cell(show(record)) for show in columns.values()] for record in found))


def table(columns: Iterable[str], rows: Iterable[list[str]]) -> None:
    """A plain table that stays readable in a pipe."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    width = None if sys.stdout.isatty() else 160
    Console(markup=False, emoji=False, highlight=False, width=width).print(drawn)


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
