"""A column that has no values in the first batch gets the type of its first values, and no earlier row is lost."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.projects import tidemill
from tidemill.compose.session import open_session
from tidemill.project.project import Project

WRITE = {"csv": pl.DataFrame.write_csv, "jsonl": pl.DataFrame.write_ndjson, "parquet": pl.DataFrame.write_parquet}


def rows(first: int, refund: Any) -> pl.DataFrame:
    ids = range(first, first + 60)
    return pl.DataFrame(
        {"oid": [f"o{i}" for i in ids], "x": [i % 7 for i in ids], "refund": refund, "y": [i % 2 for i in ids]}
    )


@pytest.mark.parametrize("form", WRITE)
def test_first_values_type_an_empty_column(form: str, tmp_path: Path) -> None:
    write: Any = WRITE[form]
    write(rows(0, pl.Series([None] * 60, dtype=pl.Null)), tmp_path / f"a.{form}")
    tidemill(tmp_path, "init", "p", "--from", str(tmp_path / f"a.{form}"), "--label", "y", "--key", "oid")
    policy = tmp_path / "p" / "tidemill.toml"
    policy.write_text(policy.read_text().replace(f"data/p.{form}", f"data/*.{form}"))
    tidemill(tmp_path / "p", "run", "ingestion")
    write(rows(100, [i / 4 if i % 3 else None for i in range(60)]), tmp_path / "p" / "data" / f"b.{form}")
    tidemill(tmp_path / "p", "run", "ingestion")
    write(rows(200, ["high"] * 60), tmp_path / "p" / "data" / f"c.{form}")
    tidemill(tmp_path / "p", "run", "ingestion", code=3)
    session = open_session(Project(tmp_path / "p"))
    versions = sorted(session.workspace.ledger.schemas.find(source="rows"), key=lambda version: version.version)
    types = [next(c.type for c in version.schema.columns if c.name == "refund") for version in versions]
    assert (types, versions[1].reason) == (["empty", "number"], "the first values of 'refund'")
    table = session.workspace.tables.read("rows", session.workspace.tables.version("rows")).sort("refund", "oid")
    assert table.height == 120
    assert table.filter(pl.col("oid").is_in([f"o{i}" for i in range(60)]))["refund"].null_count() == 60
    assert table["refund"].drop_nulls().to_list() == [i / 4 for i in range(60) if i % 3]
