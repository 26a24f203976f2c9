"""A plain `pip install tidemill`, without the packages of any extra, runs a project from first to last."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OF_EXTRAS = (
    *("alembic", "apprise", "duckdb", "onnxruntime", "optuna", "pandas", "plotly", "psycopg", "pyarrow", "skrub"),
    *("sqlalchemy", "cryptography", "model_signing", "mcp"),
)
# Python runs this file at the start of every process that inherits PYTHONPATH, workers included.
ABSENT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OF_EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the packages of extras cannot be imported."""
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT)
    return os.environ | {"PYTHONPATH": str(tmp_path / "absent")}


def command(folder: Path, environment: dict[str, str], *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_a_project_runs_without_the_packages_of_extras(tmp_path: Path, plain: dict[str, str]) -> None:
    command(tmp_path, plain, "init", "shop")
    folder = tmp_path / "shop"
    assert "training done" in command(folder, plain, "run", "training")
    command(folder, plain, "run", "watching")
    command(folder, plain, "run", "materialization")
    command(folder, plain, "data", "profile", "rows", "--report", "look.html")
    assert "plotly.js" in (folder / "look.html").read_text()
    command(folder, plain, "backup", "kept.tar")
    command(folder, plain, "maturity")
    command(folder, plain, "evidence", "export", "shop/1", "--out", "shop-1.zip")
    command(folder, plain, "evidence", "verify", "shop-1.zip")
    assert "pip install 'tidemill[mcp]'" in command(folder, plain, "mcp", code=1)


def test_a_table_of_a_database_names_the_extra_that_it_needs(tmp_path: Path, plain: dict[str, str]) -> None:
    command(tmp_path, plain, "init", "shop")
    policy = tmp_path / "shop" / "tidemill.toml"
    policy.write_text(
        policy.read_text().replace('path = "data/shop.csv"', 'path = "sqlite:///shop.db"\ntable = "shop"')
    )
    assert "pip install 'tidemill[sql]'" in command(tmp_path / "shop", plain, "run", "ingestion", code=1)
