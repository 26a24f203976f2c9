"""`init`: starts a project around a table."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.errors import InputError


def init(
    name: Annotated[str, typer.Argument(help="The folder and name of the new project.")],
    table: Annotated[Path | None, typer.Option("--from", help="Your table: Parquet, CSV or JSON Lines.")] = None,
    label: Annotated[str, typer.Option(help="The column to predict.")] = "",
    time: Annotated[str, typer.Option(help="The column of the event time.")] = "",
    key: Annotated[str, typer.Option(help="The column that identifies a row.")] = "",
    task: Annotated[str, typer.Option(help="classification or regression. Default: guessed from the label.")] = "",
    exclude: Annotated[
        list[str] | None, typer.Option(help="A column to exclude from the inputs; can be repeated.")
    ] = None,
) -> None:
    """Create a project that can run at once, with your table or with a generated example."""
    from msgspec.structs import replace

    from tidemill.core.policy import Training
    from tidemill.data.classes import order_classes
    from tidemill.data.keys import to_class_names
    from tidemill.data.tables import read_table
    from tidemill.project.example import write_example
    from tidemill.project.guessing import guess_columns
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
    frame = read_table(table)
    guessed = guess_columns(frame, label, time=time, key=key, task=task, exclude=tuple(exclude or ()))
    classes = (
        order_classes(to_class_names(frame[label].drop_nulls()).unique()) if guessed.task == "classification" else ()
    )
    guessed = replace(guessed, positive=classes[1] if len(classes) == 2 else "")
    write_project(folder, guessed, table)
    about = f"{guessed.task} of {label!r} from {len(guessed.inputs)} columns of {frame.height:,} rows"
    output.out.print(f"{folder}: {about}")
    if guessed.positive:
        output.out.print(f"  positive class: {guessed.positive!r} (positive under [problem])")
    for column, reason in guessed.excluded.items():
        output.out.print(f"  excluded {column!r}: {reason}")
    output.out.print(f"  event time: {guessed.time or 'none found; set it with --time'}")
    if frame.height < (needed := Training().minimum_rows):
        output.out.print(f"  too few rows: a training needs {needed} (minimum_rows under [training])")
    output.out.print(f"next: cd {shlex.quote(name)} && tidemill run training && tidemill serve")
