"""A user's columns may have any name that Tidemill's own code gives a column, in each type."""

import ast
import re
from pathlib import Path

import polars as pl
import pytest

import tidemill as package
from tests.projects import tidemill

ROWS = 240
# Methods of Polars that name a column of their own.
_POLARS_NAMES = {
    "count",
    "index",
    "literal",
    "len",
    "value",
    "column_0",
    "field_0",
    "breakpoint",
    "category",
    "duplicated",
}
_CALLS = {"alias", "col", "with_row_index", "Series", "value_counts", "len", "rename", "struct"}


def list_own_names() -> list[str]:
    """Return the literal names of columns in the source: arguments of calls such as `alias`, and keys of frames."""
    names = set(_POLARS_NAMES)
    for file in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            values = [*node.args[:1], *(word.value for word in node.keywords)] if called in _CALLS else []
            values += [
                key
                for arg in node.args
                if called == "DataFrame" and isinstance(arg, ast.Dict)
                for key in arg.keys
                if key
            ]
            names |= {
                value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    return sorted(name for name in names if re.fullmatch(r"[A-Za-z][\w ]{0,30}", name))


def build_values(kind: str, index: int) -> list[object]:
    rows = range(ROWS)
    return {
        "text": [("few", "some", "many", "NA")[(row * 7 + index) % 4] for row in rows],
        "number": [str((row * 31 + index * 17) % 97 / 8) for row in rows],
        "money": [f"${(row * 13 + index) % 89}.50" for row in rows],
        "day": [f"{2020 + index % 3}-{1 + row % 12:02d}-{1 + (row + index) % 28:02d}" for row in rows],
    }[kind]  # type: ignore[return-value]


NAMES = list_own_names()


def test_the_names_of_the_source_are_found() -> None:
    assert {"count", "value", "key", "row", "time", "truth", "hash"} <= set(NAMES)


@pytest.mark.parametrize("kind", ["text", "number", "money", "day"])
def test_a_table_may_use_each_name(tmp_path: Path, kind: str) -> None:
    table = {name: build_values(kind, index) for index, name in enumerate(NAMES)}
    table["signal"] = [row % 2 + (row * 37 % 11) / 20 for row in range(ROWS)]
    table["outcome"] = [("no", "yes")[row % 2] for row in range(ROWS)]
    pl.DataFrame(table).write_csv(tmp_path / "table.csv")
    tidemill(tmp_path, "init", "mine", "--from", "table.csv", "--label", "outcome")
    tidemill(tmp_path / "mine", "run", "training")
    assert "outcome" in tidemill(tmp_path / "mine", "data", "profile", "rows").stdout


@pytest.mark.parametrize(
    "label", ["count", "value", "label", "truth", "row", "key", "time", "predicted", "probability"]
)
def test_a_label_may_have_each_name(tmp_path: Path, label: str) -> None:
    table = {"signal": [row % 2 + (row * 37 % 11) / 20 for row in range(ROWS)], label: [row % 2 for row in range(ROWS)]}
    pl.DataFrame(table).write_csv(tmp_path / "table.csv")
    tidemill(tmp_path, "init", "mine", "--from", "table.csv", "--label", label)
    tidemill(tmp_path / "mine", "run", "training")
