"""Small real projects for tests: made by `init`, run by the same commands as a user's."""

import io
import os
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from tidemill.cli.main import main
from tidemill.compose.session import open_session
from tidemill.flow.session import Session
from tidemill.project.example import write_example
from tidemill.project.guessing import guess_columns
from tidemill.project.project import Project
from tidemill.project.starting import write_project

DOUBLING = """\
from tidemill import pipeline, step


@step
def double(number: int) -> int:
    return 2 * number


@pipeline
def doubling(number: int = 1) -> None:
    double(number)
"""
"""The code of a project with one small pipeline."""


def make_project(folder: Path, *, replace: dict[str, str] | None = None) -> Project:
    """The invented shop of `tidemill init`, with passages of its tidemill.toml replaced."""
    table = write_example(folder)
    write_project(folder, guess_columns(pl.read_csv(table, try_parse_dates=True), "late", key="order_id"), table)
    file = folder / "tidemill.toml"
    text = file.read_text()
    for passage, other in (replace or {}).items():
        assert passage in text, passage
        text = text.replace(passage, other)
    file.write_text(text)
    return Project(folder)


def session_of(folder: Path, **changes: str) -> Session:
    """A session on a new shop."""
    return open_session(make_project(folder, replace=changes))


def tidemill(folder: Path, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, in this process, and hold its exit code: what it printed, as a process gives it.

    Variables that did not change are not touched: Polars crashes if one of its threads reads a variable meanwhile.
    """
    before, there = dict(os.environ), Path.cwd()
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            ended = main(list(words))
    finally:
        os.chdir(there)
        for name in {name for name, _ in os.environ.items() ^ before.items()}:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
    out.flush()
    printed = out.buffer.getvalue().decode()
    assert ended == code, f"exit {ended}\n{printed}\n{err.getvalue()}"
    return subprocess.CompletedProcess(words, ended, printed, err.getvalue())


def listed(folder: Path, *words: str) -> Any:
    """What a command prints with --json."""
    return msgspec.json.decode(tidemill(folder, *words, "--json").stdout)
