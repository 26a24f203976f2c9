"""A column may have any name: tables that differ only in their names give the same metrics and predictions."""

import ast
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.projects import tidemill
from tidemill.compose.session import open_session, predict
from tidemill.core.columns import is_internal, require_usable_names
from tidemill.errors import Unreadable
from tidemill.project.project import Project

SOURCE = Path(open_session.__code__.co_filename).parents[1]
CALLS = {"alias", "col", "Series", "value_counts", "with_row_index", "lit", "len", "over", "sort", "drop", "select"}
HOSTILE = [
    *("", " ", "a.b", 'a"b', "a'b", "a`b", "a[b]", "a\nb", "a\tb", "{}", "{a}", "a,b", "a;b", "a=b", "a|b", "a\\b"),
    *(
        "(x)",
        "$a",
        "^a",
        "a$",
        "*a",
        "%s",
        "a%20b",
        "a/b",
        "a:b",
        "a#b",
        "# a",
        "é",
        "e\u0301",
        "ﬁ",
        "🦙",
        "\x7f",
        "\u2028",
    ),
    *("_", "__", "_id", "_time", "_known_at", "_batch", "_path", "_arrived", "_row", "_why", "__index_level_0__"),
    *("select", "from", "group", "order", "key", "time", "id", "index", "len", "count", "value", "literal", "self"),
    *("exprs", "label", "prediction", "score", "fold", "weight", "name", "row", "rows", "features", "probability"),
    *("release", "role", "known_at", "truth", "x_right", "true", "null", "None", "nan", "NaN", "0", "1.5", "x" * 5_000),
]


def find_internal_names() -> list[str]:
    """Return the column names that the code itself uses, from the calls of Polars with a literal name."""
    names = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript):
                arguments = [node.slice]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            else:
                continue
            names |= {a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return sorted(names)


def make_table(names: list[str], rows: int = 300) -> pl.DataFrame:
    """Return a table with a time, a key, a label and inputs of several types, in the order of the names."""
    random = np.random.default_rng(5)
    label = random.integers(0, 2, rows)
    start = np.datetime64("2026-01-01T00:00:00")
    columns: list[pl.Series] = [
        pl.Series((start + np.arange(rows) * np.timedelta64(2, "h")).astype("datetime64[us]")).cast(
            pl.Datetime("us", "UTC")
        ),
        pl.Series([f"k{number}" for number in range(rows)]),
        pl.Series(np.where(label == 1, "yes", "no")),
    ]
    for number in range(len(names) - 3):
        kinds = (
            pl.Series((random.normal(size=rows) + 0.3 * label).round(2)),
            pl.Series(random.choice(["few", "some", "many"], rows)),
            pl.Series(random.integers(0, 50, rows) + 5 * label),
            pl.Series(random.random(rows) < 0.5),
        )
        columns.append(kinds[number % len(kinds)])
    return pl.DataFrame([column.alias(name) for column, name in zip(columns, names, strict=True)])


def train_and_predict(folder: Path, table: pl.DataFrame, form: str) -> tuple[dict[str, float], pl.DataFrame]:
    """Return the metrics of a training on a table, and the predictions for its first rows."""
    file = folder / f"table.{form}"
    getattr(table, {"csv": "write_csv", "jsonl": "write_ndjson", "parquet": "write_parquet"}[form])(file)
    time, key, label = table.columns[:3]
    roles = [f"--time={time}", f"--key={key}", f"--label={label}"]
    tidemill(folder, "init", "shop", "--from", str(file), *roles)
    text = (folder / "shop" / "tidemill.toml").read_text()
    (folder / "shop" / "tidemill.toml").write_text(text.replace("[training]", "[training]\nrounds = 20", 1))
    tidemill(folder / "shop", "run", "ingestion")
    tidemill(folder / "shop", "run", "training")
    session = open_session(Project(folder / "shop"))
    (run,) = session.workspace.ledger.runs.find(pipeline="training")
    metrics = {name: value for name, value in run.metrics.items() if not name.endswith(("_ms", "_mb"))}
    return metrics, predict(session, table.head(20).drop(label)).select("value", "probability")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_names_change_nothing(tmp_path: Path, form: str) -> None:
    distinct = {name.casefold(): name for name in [*find_internal_names(), *HOSTILE] if not is_internal(name)}
    hostile = list(distinct.values())
    plain = [f"c{number}" for number in range(len(hostile))]
    results = []
    for folder, names in (("plain", plain), ("hostile", hostile)):
        (tmp_path / folder).mkdir()
        results.append(train_and_predict(tmp_path / folder, make_table(names), form))
    assert results[0][0] == results[1][0]
    assert results[0][1].equals(results[1][1])


@pytest.mark.parametrize("name", ["*", "^.*$", "^a$", "a\0b", "_tidemill_time", "_tidemill_"])
def test_a_name_that_no_table_can_have_is_refused_with_a_cure_that_works(tmp_path: Path, name: str) -> None:
    table = make_table(["at", "id", "late", "x", name])
    with pytest.raises(Unreadable, match="has a column") as refused:
        require_usable_names(table.columns, "the table")
    suggested = refused.value.cure.split("'")[1]
    require_usable_names([suggested if column == name else column for column in table.columns], "the table")
    if "\0" not in name:  # which Polars cannot write
        table.write_parquet(tmp_path / "table.parquet")
        with_label = ("init", "shop", "--from", str(tmp_path / "table.parquet"), "--label", "late")
        assert repr(name) in tidemill(tmp_path, *with_label, code=2).stderr
