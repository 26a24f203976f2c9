"""Tables as people write them, from `init` to the table of accepted rows; each cure is followed literally."""

import gzip
import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from tests.projects import tidemill
from tidemill.compose.session import open_session
from tidemill.project.project import Project

ROWS = 80


def accepted_rows(project: Path) -> pl.DataFrame:
    tables = open_session(Project(project)).workspace.tables
    return tables.read("rows", tables.version("rows"))


def accept_more_files(project: Path) -> None:
    file = project / "tidemill.toml"
    file.write_text(re.sub(r'path = "data/.*"', 'path = "data/*"', file.read_text()))


CURED = {
    "a word among numbers": (
        "a,b,y\n",
        lambda row: f"{row % 9 + 0.5},{'unknown' if row == 70 else row % 7},{row % 2}",
        "b",
        None,
    ),
    "day or month": (
        "a,day,y\n",
        lambda row: f"{row % 9},{1 + row % 12:02d}/{1 + row % 11:02d}/2013,{row % 2}",
        "day",
        0,
    ),
    "thousands or fractions": ("a;b;y\n", lambda row: f"{row % 9};{1 + row}.{100 + row};{row % 2}", "b", 0),
    "an encoding": ("a;b;y\n", lambda row: f"{row % 9};{('ý', 'þ', 'ð')[row % 3]};{row % 2}", "b", 0),
}


@pytest.mark.parametrize(("header", "line", "column", "nulls"), CURED.values(), ids=CURED)
def test_the_option_that_init_names_is_the_cure(
    tmp_path: Path, header: str, line: "object", column: str, nulls: int | None
) -> None:
    assert callable(line)
    (tmp_path / "table.csv").write_bytes((header + "".join(f"{line(row)}\n" for row in range(ROWS))).encode("cp1252"))
    words = ["init", "mine", "--from", "table.csv", "--label", "y"]
    refused = tidemill(tmp_path, *words, code=2)
    option = re.search(r"--(?:null|date-format|thousands|encoding) [^\s;]+", refused.stderr.replace("\n", " "))
    assert option, refused.stderr
    tidemill(tmp_path, *words, *shlex.split(option[0]))
    tidemill(tmp_path / "mine", "run", "ingestion")
    rows = accepted_rows(tmp_path / "mine")
    assert rows.height == ROWS
    assert rows[column].null_count() == (1 if nulls is None else nulls)


def test_a_code_with_zeros_in_a_later_file_is_stopped_and_accepted_as_text(tmp_path: Path) -> None:
    def write(file: Path, codes: list[str], first: int) -> None:
        lines = [f"o{first + row},{codes[row % 3]},{row / 4},{row % 2}" for row in range(ROWS)]
        file.write_text("\n".join(["id,zip,x,y", *lines, ""]))

    write(tmp_path / "west.csv", ["90210", "94105", "98101"], 0)
    tidemill(tmp_path, "init", "mine", "--from", "west.csv", "--label", "y", "--key", "id")
    project = tmp_path / "mine"
    accept_more_files(project)
    tidemill(project, "run", "ingestion")
    write(project / "data" / "east.csv", ["02139", "07030", "10001"], 1000)
    stopped = tidemill(project, "run", "ingestion", code=3)
    assert "which would lose their zeros as numbers" in " ".join(stopped.stderr.split())
    assert accepted_rows(project).height == ROWS
    tidemill(project, "data", "accept", "rows", "--reason=test")
    tidemill(project, "run", "ingestion")
    codes = {"90210", "94105", "98101", "02139", "07030", "10001"}
    assert set(accepted_rows(project)["zip"]) == codes


def test_a_compressed_file_is_copied_and_ingested(tmp_path: Path) -> None:
    lines = [f"{row};{row / 4:.2f};{row % 2}".replace(".", ",") for row in range(ROWS)]
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress("\n".join(["id;größe;y", *lines]).encode("utf-16")))
    printed = tidemill(tmp_path, "init", "mine", "--from", "table.csv.gz", "--label", "y").stdout
    assert "separator: ';'" in printed
    assert "decimal separator: ','" in printed
    assert (tmp_path / "mine" / "data" / "mine.csv.gz").is_file()
    tidemill(tmp_path / "mine", "run", "ingestion")
    assert accepted_rows(tmp_path / "mine")["größe"].to_list() == [row / 4 for row in range(ROWS)]
    assert "größe" in tidemill(tmp_path / "mine", "data", "profile", "rows").stdout
    assert "number" in tidemill(tmp_path, "data", "profile", "table.csv.gz").stdout


def test_init_prints_which_texts_are_null(tmp_path: Path) -> None:
    lines = [f"{'NA' if row == 3 else row / 4},{('NA', 'm', 'f')[row % 3]},{row % 2}" for row in range(ROWS)]
    (tmp_path / "table.csv").write_text("\n".join(["size,sex,y", *lines]))
    printed = tidemill(tmp_path, "init", "mine", "--from", "table.csv", "--label", "y").stdout
    assert "read as null: 'NA' (size 1, sex 27)" in printed


@pytest.mark.parametrize("given", ["lake", "lake/**/*.csv", "lake/*/*.csv"])
def test_of_several_files_a_project_starts_with_one(tmp_path: Path, given: str) -> None:
    for month in ("2025-01", "2025-02"):
        file = tmp_path / "lake" / f"month={month}" / "a.csv"
        file.parent.mkdir(parents=True)
        file.write_text("a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(ROWS)))
    refused = tidemill(tmp_path, "init", "mine", "--from", given, "--label", "y", code=2).stderr
    assert f"--from {given} names 2 files" in refused
    assert "add --from lake/month=2025-01/a.csv" in refused


@pytest.mark.parametrize(("given", "what"), [("sqlite:///shop.db", "URL"), ("shop.db", "database")])
def test_a_project_starts_with_a_file(tmp_path: Path, given: str, what: str) -> None:
    (tmp_path / "shop.db").write_bytes(b"SQLite format 3")
    refused = tidemill(tmp_path, "init", "mine", "--from", given, "--label", "y", code=2).stderr
    assert f"--from shop.db is a {what}, and a project starts with a file" in refused
    assert not (tmp_path / "mine").exists()
