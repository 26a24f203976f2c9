"""`init`: starts a project around a table."""

import csv
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from tidemill.data.learning import LearnedTable
    from tidemill.project.guessing import TableGuess

_MOST_COLUMNS = 8
_DATABASES = (".db", ".sqlite", ".sqlite3", ".duckdb")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def init(
    name: Annotated[str, typer.Argument(help="The folder and name of the new project.")],
    table: Annotated[
        Path | None, typer.Option("--from", help="Your table: Parquet, CSV, JSON Lines, JSON or Excel.")
    ] = None,
    label: Annotated[str, typer.Option(help="The column to predict.")] = "",
    time: Annotated[str, typer.Option(help="The column of the event time.")] = "",
    key: Annotated[str, typer.Option(help="The column that identifies a row.")] = "",
    task: Annotated[str, typer.Option(help="classification or regression. Default: guessed from the label.")] = "",
    exclude: Annotated[
        list[str] | None, typer.Option(help="A column to exclude from the inputs; can be repeated.")
    ] = None,
    separator: Annotated[str | None, typer.Option(help="The character between values; `tab` is a tab.")] = None,
    encoding: Annotated[str | None, typer.Option(help="The encoding, such as cp1252 or cp949.")] = None,
    decimal: Annotated[str | None, typer.Option(help="The decimal separator: . or ,")] = None,
    thousands: Annotated[
        str | None, typer.Option(help="The character between groups of three digits; '' is none.")
    ] = None,
    null: Annotated[
        list[str] | None, typer.Option(help="A text that means that a value is missing; can be repeated.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A column to read as text, character by character; can be repeated.")
    ] = None,
    date_format: Annotated[
        list[str] | None,
        typer.Option(help="A format of dates such as %d.%m.%Y, or COLUMN=FORMAT for one column; can be repeated."),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=UNIT: the unit that the numbers of a column have, such as price=$; can be repeated."),
    ] = None,
    skip_lines: Annotated[int | None, typer.Option(min=0, help="The number of lines before the header.")] = None,
    header: Annotated[
        str | None, typer.Option(help="The names of the columns of a file without a header, separated by commas.")
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The file has no header: name the columns column_1, column_2, …")
    ] = False,
    trim: Annotated[
        bool | None, typer.Option("--trim/--no-trim", help="Remove the spaces around names and values, or keep them.")
    ] = None,
) -> None:
    """Create a project that can run at once, with your table or with a generated example."""
    from msgspec.structs import replace

    from tidemill.clock import SystemClock, parse_duration
    from tidemill.core.policy import Training
    from tidemill.core.schema import Schema
    from tidemill.data.classes import order_classes
    from tidemill.data.keys import to_class_names
    from tidemill.data.learning import learn_table
    from tidemill.data.reading.given import GivenDialect
    from tidemill.data.spellings import find_spellings, unify_spellings
    from tidemill.data.storable import to_storable
    from tidemill.data.timestamps import find_later_times
    from tidemill.project.example import write_example
    from tidemill.project.guessing import find_known_labels, guess_columns
    from tidemill.project.rhythm import describe_search
    from tidemill.project.starting import write_project

    folder = Path(name)
    if (folder / "tidemill.toml").exists():
        raise InputError(f"{folder} contains a tidemill.toml already", "choose another name")
    if task not in ("", "classification", "regression"):
        raise InputError(f"there is no task {task!r}", "use classification or regression")
    if table is None:
        table, label, time, key = write_example(folder), "late", "ordered", "order_id"
    elif not label:
        raise InputError("the column to predict is missing", "add --label COLUMN")
    _require_one_file(table)
    learned = learn_table(
        table,
        GivenDialect(
            separator=_to_character("--separator", separator, {"tab": "\t", "\\t": "\t"}),
            encoding=encoding,
            decimal=_to_character("--decimal", decimal, {}, (".", ",")),
            thousands=thousands if thousands == "" else _to_character("--thousands", thousands, {"space": " "}),
            nulls=tuple(null or ()),
            texts=tuple(text or ()),
            date_formats=_split_formats(date_format or ()),
            units=_split_units(unit or ()),
            skip_lines=skip_lines,
            header=() if no_header else _split_names(header),
            trim=trim,
            label=label,
            times=(time,) if time else (),
            ignored=tuple(exclude or ()),
        ),
    )
    frame = to_storable(learned.frame, table.name)
    latest = SystemClock().now() + parse_duration(Schema(source="", columns=()).ahead)
    guessed = guess_columns(
        frame,
        label,
        time=time,
        key=key,
        task=task,
        exclude=tuple(exclude or ()),
        in_future=find_later_times(frame, latest),
    )
    if guessed.task == "classification":
        known = find_known_labels(frame[label])
        spellings = find_spellings(known)
        names = to_class_names(unify_spellings(known, spellings)).unique()
        classes = order_classes(names)
        guessed = replace(guessed, positive=classes[1] if len(classes) == 2 else "", spellings=spellings)
    write_project(folder, guessed, table, dialect=learned.dialect)
    _create_stores(folder)
    about = f"{guessed.task} of {label!r} from {len(guessed.inputs)} columns of {frame.height:,} rows"
    output.out.print(f"{folder}: {about}")
    if guessed.positive:
        output.out.print(f"  positive class: {guessed.positive!r} (positive under [problem])")
    _print_reading(learned)
    _print_spellings(guessed)
    _print_columns(frame, guessed)
    output.out.print(f"  event time: {guessed.time or 'none found; set it with --time'}")
    for column in guessed.in_future:
        output.out.print(f"  column {column!r} has times in the future, and is no event time")
    output.out.print(f"  {describe_search(frame.height, guessed.rows_per_day)}")
    if frame.height < (needed := Training().minimum_rows):
        output.out.print(f"  too few rows: a training needs {needed} (minimum_rows under [training])")
    output.out.print(f"next: cd {shlex.quote(name)} && tidemill run training && tidemill serve")


def _require_one_file(table: Path) -> None:
    """Raise `InputError` for a pattern, a folder, a database or a URL: a project starts with one file."""
    text = str(table)
    if (table.is_file() and table.suffix.lower() not in _DATABASES) or (table / "_delta_log").is_dir():
        return
    then = "then set path of the source in tidemill.toml to"
    if _URL.match(text) or table.suffix.lower() in _DATABASES:
        what = "URL" if _URL.match(text) else "database"
        raise InputError(
            f"--from {table.name} is a {what}, and a project starts with a file",
            f"start with a file of some of its rows, such as rows.parquet; {then} the {what}",
        )
    pattern = f"{text}/**/*.*" if table.is_dir() else text
    files = sorted(file for file in glob(pattern, recursive=True) if Path(file).is_file())  # noqa: PTH207
    if files:
        raise InputError(
            f"--from {text} names {len(files):,} files, and a project starts with one of them",
            f"add --from {shlex.quote(files[0])}; {then} a pattern that matches all of them",
        )


def _create_stores(folder: Path) -> None:
    """Create the workspace with its ledger; a ledger that cannot be created now is created by the first run."""
    from tidemill.compose.backends import open_workspace
    from tidemill.errors import TidemillError
    from tidemill.project.project import Project

    try:
        open_workspace(Project(folder).state_folder).ledger.close()
    except TidemillError as unavailable:
        output.err.print(f"warning: the ledger was not created: {unavailable}", style="yellow")


def _print_spellings(guessed: "TableGuess") -> None:
    if guessed.spellings:
        from tidemill.data.spellings import describe_spellings

        text = describe_spellings(guessed.label, guessed.spellings)
        output.out.print(f"  {text}: made one class by spellings under [problem]; check it", style="yellow")


def _print_columns(frame: "pl.DataFrame", guessed: "TableGuess") -> None:
    """Print a line for each column: its type, nulls, values and use; a summary of the other columns of a wide table."""
    from tidemill.checks.description import describe_columns

    described, rest = describe_columns(frame, guessed)
    rows = [
        [column.name, column.type, f"{column.nulls:.1%}" if column.nulls else "", column.values, column.use]
        for column in described
    ]
    output.print_table(("column", "type", "null", "values", "use"), rows, indent=2)
    if rest:
        output.out.print(f"  {rest}")


def _to_character(
    option: str, value: str | None, names: Mapping[str, str], allowed: Sequence[str] | None = None
) -> str | None:
    """Return the character of an option; raise `InputError` if it is not one, or not one of `allowed`."""
    if value is None:
        return None
    character = names.get(value, value)
    if len(character.encode()) != 1 or (allowed and character not in allowed):
        raise InputError(
            f"{option} {value!r} is not possible", f"use {' or '.join(allowed)}" if allowed else "use one character"
        )
    return character


def _split_formats(options: Iterable[str]) -> dict[str, str]:
    """Return the format of each column; a format without a column has the key `""`."""
    formats = {}
    for option in options:
        column, separator, form = option.rpartition("=")
        formats[column if separator else ""] = form
    return formats


def _split_names(option: str | None) -> tuple[str, ...] | None:
    if option is None:
        return None
    names = tuple(name.strip() for name in next(csv.reader([option]), []))
    if not all(names):
        raise InputError(f"--header {option!r} has an empty name", "name every column")
    return names


def _split_units(options: Iterable[str]) -> dict[str, str]:
    units = {}
    for option in options:
        column, separator, unit = option.rpartition("=")
        if not separator or not unit:
            raise InputError(f"--unit {option!r} has no column and unit", "write it as --unit COLUMN=UNIT")
        units[column] = unit
    return units


def _print_reading(learned: "LearnedTable") -> None:
    """Print what was learned about the file: its dialect, and which texts are null in which columns."""
    for fact in learned.facts:
        output.out.print(f"  {fact}")
    by_text: dict[str, list[str]] = {}
    for column, counts in learned.nulls.items():
        for text, count in counts.items():
            by_text.setdefault(text, []).append(f"{column} {count:,}")
    for text, columns in by_text.items():
        more = f" and {len(columns) - _MOST_COLUMNS} more columns" if len(columns) > _MOST_COLUMNS else ""
        output.out.print(f"  read as null: {text!r} ({', '.join(columns[:_MOST_COLUMNS])}{more})")
