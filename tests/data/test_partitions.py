"""Folders such as `month=2025-01`: their values are columns of the rows, as in Spark, DuckDB and Polars."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from obstore.store import from_url

from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import Unreadable

NOW = datetime(2100, 1, 1, tzinfo=UTC)


def read(root: Path, path: str, **settings: Any) -> list[dict[str, Any]]:
    """Return the rows of all batches of a source."""
    sources = FileSources(root, {"rows": Source(path=path, **settings)})
    batches = sorted(sources.batches("rows", NOW), key=lambda batch: batch.id)
    return [row for batch in batches for row in sources.read(batch).select(pl.exclude("^_tidemill_.*$")).to_dicts()]


def write(file: Path, **columns: list[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(columns)
    frame.write_csv(file) if file.suffix == ".csv" else frame.write_parquet(file)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_the_folders_of_a_file_are_columns_of_its_rows(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data/year=2025/shop=07/day=2025-03-01" / name, n=[1, 2])
    write(tmp_path / "data/year=2026/shop=S%C3%A3o/day=__HIVE_DEFAULT_PARTITION__" / name, n=[3])
    rows = read(tmp_path, f"data/**/{name}")
    assert rows[:2] == [{"n": n, "year": 2025, "shop": "07", "day": date(2025, 3, 1)} for n in (1, 2)]
    assert rows[2] == {"n": 3, "year": 2026, "shop": "São", "day": None}


def test_a_column_of_the_file_and_the_folders_before_the_pattern_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "run=1/year=2025/a.parquet", n=[1], year=[1999])
    assert read(tmp_path, "run=1/*/a.parquet") == [{"n": 1, "year": 1999}]
    assert read(tmp_path, "run=1/year=2025/*.parquet") == [{"n": 1, "year": 1999}]


def test_a_large_file_has_the_columns_in_every_part(tmp_path: Path) -> None:
    count = 200_000
    write(tmp_path / "data/shop=a/a.csv", n=list(range(count)), m=["x" * 20] * count)
    sources = FileSources(tmp_path, {"rows": Source(path="data/*/*.csv", max_memory_mb=20)})
    (batch,) = sources.batches("rows", NOW)
    parts = sources.open_parts(batch)
    assert parts is not None
    assert {shop for part in parts() for shop in part["shop"].unique()} == {"a"}


def test_the_folders_of_objects_are_columns(s3_url: str, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    write(file, n=[1])
    from_url(s3_url).put("hive/month=2025-01/a.parquet", file.read_bytes())
    assert read(tmp_path, f"{s3_url}/hive/**/*.parquet") == [{"n": 1, "month": "2025-01"}]


def test_a_folder_whose_name_differs_in_case_from_a_column_is_no_second_column(tmp_path: Path) -> None:
    write(tmp_path / "data/N=5/a.csv", n=[1])
    assert read(tmp_path, "data/*/a.csv") == [{"n": 1}]


def test_folders_whose_names_differ_only_in_case_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "data/Month=1/month=2/a.csv", n=[1])
    with pytest.raises(Unreadable, match="differ only in upper and lower case"):
        read(tmp_path, "data/*/*/a.csv")


def test_the_code_of_namibia_is_no_null(tmp_path: Path) -> None:
    write(tmp_path / "data/country=NA/a.csv", n=[1])
    assert read(tmp_path, "data/*/a.csv") == [{"n": 1, "country": "NA"}]
    assert read(tmp_path, "data/*/a.csv", nulls=("NA",)) == [{"n": 1, "country": None}]


def test_the_date_of_a_folder_has_the_format_of_its_source(tmp_path: Path) -> None:
    write(tmp_path / "data/day=20250101/a.parquet", n=[1])
    rows = read(tmp_path, "data/*/a.parquet", date_formats={"day": "%Y%m%d"})
    assert rows == [{"n": 1, "day": date(2025, 1, 1)}]
