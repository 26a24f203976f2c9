"""Steps that read a file, the clock, random numbers, the environment or the network are warned of."""

import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.projects import make_project, tidemill
from tidemill.flow.purity import list_step_effects

HEADER = """
import os
import random
import time
import urllib.request
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import requests
from numpy.random import default_rng, rand

from tidemill import step
import reading

TABLE = pl.read_csv("data/x.csv") if False else None
LIMIT = 5

"""
EFFECTS = {
    "open('a').read()": "file",
    "Path('a').read_text()": "file",
    "Path('a').open().read()": "file",
    "pl.read_parquet('a')": "file",
    "pl.scan_csv('a')": "file",
    "pd.read_csv('a')": "file",
    "np.load('a')": "file",
    "TABLE": "file",
    "reading.load()": "file",
    "helped()": "file",
    "datetime.now()": "clock",
    "date.today()": "clock",
    "time.time()": "clock",
    "pd.Timestamp.now()": "clock",
    "random.random()": "random",
    "np.random.normal()": "random",
    "rand(3)": "random",
    "default_rng().normal()": "random",
    "rows.sample(3)": "random",
    "os.environ['A']": "environment",
    "os.environ.get('A')": "environment",
    "os.getenv('A')": "environment",
    "os.environ | {}": "environment",
    "requests.get('http://a')": "network",
    "urllib.request.urlopen('http://a')": "network",
}
PURE = [
    "LIMIT + rows",
    "rows.sample(3, seed=1)",
    "default_rng(3).normal()",
    "np.random.default_rng(seed=3)",
    "random.Random(4).random()",
    "pl.read_excel",
    "datetime(2026, 1, 1)",
    "time.strftime('%Y', time.gmtime(0))",
    "until.now()",
    "rows.open()",
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "reading.py").write_text("def load():\n    with open('b') as file:\n        return file.read()\n")
    sys.path.insert(0, str(tmp_path))
    for name in ("requests",):
        if importlib.util.find_spec(name) is None:
            sys.modules.setdefault(name, ModuleType(name))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    sys.modules.pop("reading", None)


def list_kinds(folder: Path, expression: str) -> list[str]:
    helper = "def helped():\n    return open('c')\n"
    code = f"{helper}\n\n@step\ndef own(rows: int, until: int = 0):\n    return {expression}\n"
    file = folder / "own_steps.py"
    file.write_text(HEADER + code)
    spec = importlib.util.spec_from_file_location("own_steps", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_steps"] = module
    spec.loader.exec_module(module)
    return [found.effect.kind for found in list_step_effects(module.own.function, folder)]


@pytest.mark.parametrize("expression", EFFECTS)
def test_a_read_is_found(folder: Path, expression: str) -> None:
    assert list_kinds(folder, expression) == [EFFECTS[expression]]


@pytest.mark.parametrize("expression", PURE)
def test_code_without_a_read_is_not_warned_of(folder: Path, expression: str) -> None:
    assert list_kinds(folder, expression) == []


PIPELINE = """

from pathlib import Path
from tidemill import pipeline, step


@step{options}
def noted(times: int) -> str:
    return Path(__file__).read_text()[:times]


@pipeline
def notes(times: int = 3) -> None:
    noted(times)
"""


@pytest.mark.parametrize(("options", "warned"), [("", True), ("(cache=False)", False)])
def test_a_run_warns_of_its_steps(
    tmp_path: Path, options: str, warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.flow.purity._warned", set())
    folder = make_project(tmp_path / "shop").folder
    (folder / "pipeline.py").write_text((folder / "pipeline.py").read_text() + PIPELINE.format(options=options))
    with caplog.at_level(logging.WARNING, "tidemill.flow"):
        done = tidemill(folder, "run", "notes")
    assert ("step 'noted' reads a file (pipeline.py, line" in caplog.text + done.stderr) == warned
    if warned:
        assert "declare the file as a source" in caplog.text + done.stderr


def test_the_recipes_have_nothing_to_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_project(tmp_path / "shop").folder
    with caplog.at_level(logging.WARNING, "tidemill.flow"):
        done = tidemill(folder, "run", "ingestion")
    assert "reads" not in caplog.text + done.stderr
