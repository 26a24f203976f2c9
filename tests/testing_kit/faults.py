"""Ten faults to plant in a copy of a project, each with the kind of test that must fail and words of its message."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.testing_kit.places import replace_passage


class Fault(NamedTuple):
    """A fault: how it is planted in the copy of each project, the kind that catches it, and what its message names."""

    name: str
    kind: str
    words: tuple[str, ...]
    plant: Callable[[Path], None]


def _edit(file: str, passage: str, other: str) -> Callable[[Path], None]:
    return lambda project: replace_passage(project / file, passage, other)


def _in_clean(line: str) -> Callable[[Path], None]:
    return _edit("pipeline.py", "    return rows.filter(pl.col(label).is_not_null())", f"    {line}")


def _leak(project: Path) -> None:
    if project.name == "flights":  # the rates use flights that have not landed yet
        replace_passage(project / "tidemill.toml", 'time = "landed"', 'time = "scheduled_departure"')
        return
    lines = (project / "data" / "mine.csv").read_text().splitlines()
    header, *rows = lines
    refunds = [f"{row},{5 + index % 40 if row.endswith(',1') else 0}" for index, row in enumerate(rows)]
    (project / "data" / "mine.csv").write_text("\n".join([f"{header},refund", *refunds]) + "\n")
    replace_passage(project / "tidemill.toml", '    "minutes"', '    "refund",\n    "minutes"')


def _slow_learning(project: Path) -> None:
    if project.name == "flights":
        replace_passage(project / "tidemill.toml", "learning_rate = 0.25", "learning_rate = 1e-9")
    else:
        replace_passage(project / "tidemill.toml", "[training]\n", "[training]\nparams = { learning_rate = 1e-9 }\n")


def _divide_by_zero(project: Path) -> None:
    text = (project / "features.py").read_text()
    divided = text.partition(".then(")[2].partition(")).to_series()")[0]
    guarded = f"pl.select(pl.when({divided.partition(' / ')[2]} != 0).then({divided})).to_series()"
    replace_passage(project / "features.py", guarded, divided)


def _drop_level(project: Path) -> None:
    column, level = ("carrier", "UA") if project.name == "flights" else ("channel", "phone")
    replace_passage(
        project / "pipeline.py",
        "fit_encoding(frame, features.names)",
        f'fit_encoding(frame.filter(pl.col("{column}") != "{level}"), features.names)',
    )


def _other_units(project: Path) -> None:
    column = "^.*_late_.*$" if project.name == "flights" else "fees_fee"
    replace_passage(
        project / "pipeline.py", "    return frame\n", f'    return frame.with_columns(pl.col("{column}") * 100)\n'
    )


FAULTS = (
    Fault("a feature that leaks", "leakage", ("leak",), _leak),
    Fault("an encoder that drops a level", "model_methods", ("learn_levels", "drops the level"), _drop_level),
    Fault("a loss that does not fall", "convergence", ("the loss does not fall",), _slow_learning),
    Fault("a NaN at zero", "finite", ("'pace' returns", "= 0"), _divide_by_zero),
    Fault(
        "an undeclared artifact",
        "artifacts",
        ("'clean' wrote 'kept.csv', an artifact that it does not declare",),
        _in_clean('rows.select(label).write_csv(__file__.replace("pipeline.py", "kept.csv")); return rows'),
    ),
    Fault(
        "a step that does not fit the next",
        "integration",
        ("'clean' returns", "does not fit", "DataFrame"),
        lambda project: (
            _edit("pipeline.py", "label: str) -> pl.DataFrame:", "label: str) -> dict[str, int]:")(project),
            _in_clean('return {"rows": rows.height}')(project),
        )[0],
    ),
    Fault(
        "a label of the wrong type",
        "label",
        ("'clean' gives the label", "the wrong type: text"),
        _in_clean("return rows.with_columns(pl.col(label).cast(pl.String))"),
    ),
    Fault(
        "a non-deterministic step",
        "determinism",
        ("'clean' is not deterministic",),
        _in_clean("return rows.sample(fraction=0.9)"),
    ),
    Fault("offline ≠ online", "offline_online", ("offline and online features differ", "'complete'"), _other_units),
    Fault(
        "a secret in a log",
        "secrets",
        ("'clean' prints the secret in DATABASE_PASSWORD",),
        _in_clean('import os; print("connecting with", os.environ.get("DATABASE_PASSWORD")); return rows'),
    ),
)
