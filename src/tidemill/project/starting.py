"""Starts a project: writes files around a table that run at once, and say what was guessed."""

import re
import shutil
import unicodedata
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from tidemill.clock import SystemClock
from tidemill.core.metric import default_metric
from tidemill.errors import InputError
from tidemill.project.guessing import Guess

_STILL_COMING = timedelta(days=30)
_TO_TELL = 210  # the labels that the watch waits for, and a few
_PATTERN = re.compile(r"[*?\[\]]")


def write_project(folder: Path, guessed: Guess, table: Path, now: datetime | None = None) -> None:
    """Write the files of a project around a table, which is copied into it; `now` tells whether rows still come.

    Raises
    ------
    InputError
        if the folder has a project already, or cannot be written.
    """
    if (folder / "tidemill.toml").exists():
        raise InputError(f"{folder} has a tidemill.toml already", "choose another name, or remove it")
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "tests").mkdir(exist_ok=True)
        kept = folder / "data" / f"{_PATTERN.sub('-', folder.name)}{table.suffix.lower()}"
        if table.resolve() != kept.resolve():
            shutil.copyfile(table, kept)
        for name, text in _files(folder, guessed, kept, now or SystemClock().now()).items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as refused:
        raise InputError(
            f"{folder} cannot be written: {refused.strerror}", "choose a folder that you may write"
        ) from None


def _files(folder: Path, guessed: Guess, table: Path, now: datetime) -> dict[str, str]:
    return {
        "tidemill.toml": _policy(folder.name, guessed, f"data/{table.name}", now),
        "pipeline.py": _PIPELINE,
        "features.py": _FEATURES,
        "tests/test_project.py": _TESTS,
        ".gitignore": ".tidemill/\n__pycache__/\n",
    }


def _quoted(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _pace(guessed: Guess) -> tuple[str, int]:
    """How far the watch looks back to see enough, in whole weeks, and after how many labels a trial is settled.

    While one is on trial, the champion answers four rows of five; twelve days leave it two before it has to end.
    """
    seen = 0.8 * guessed.a_day
    window = next((f"{days}d" for days in (7, 14) if not seen or days * seen >= _TO_TELL), "28d")
    labels = int(12 * seen) // 10 * 10 if seen else 300
    return window, max(100, min(300, labels))


def _age(guessed: Guess, now: datetime) -> str:
    """The greatest age of a model, where new rows seem to come: from old ones it would be trained again in vain."""
    if guessed.newest is not None and now - guessed.newest < _STILL_COMING:
        return _AGE
    old = f" (the newest is of {guessed.newest:%Y-%m-%d})" if guessed.newest else ""
    return f"# where new rows keep coming{old}:\n" + "".join(f"# {line}\n" for line in _AGE.splitlines())


_AGE = """[[watch.values]]        # a model is never older than this
value = "age"
limit = 30.0            # days since its newest training row
action = "retrain"
"""


def _named(folder: str) -> str:
    """A name for the project and its model, which is part of an address: letters without their accents."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", folder) if not unicodedata.combining(one))
    return re.sub(r"[^A-Za-z0-9_-]", "-", plain).strip("-").lstrip("-0123456789_") or "project"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}") or 0.1


def _policy(name: str, guessed: Guess, path: str, now: datetime) -> str:
    classes = guessed.task == "classification"
    metric, limit = default_metric(guessed.task), 0.1 if classes else _rounded(0.2 * guessed.spread)
    margin, unit = (0.01, "log loss") if classes else (_rounded(0.02 * guessed.spread**2), "squared error")
    window, labels = _pace(guessed)
    left_out = "".join(f"# left out: {_quoted(column)} ({why})\n" for column, why in guessed.excluded.items())
    inputs = ",\n".join(f"    {_quoted(column)}" for column in guessed.inputs)
    time = (
        f"time = {_quoted(guessed.time)}\n" if guessed.time else "# time = …           # the column of the event time\n"
    )
    key = (
        f"key = {_quoted(list(guessed.key))}\n"
        if guessed.key
        else '# key = ["…"]        # the columns that name a row\n'
    )
    positive = f"positive = {_quoted(guessed.positive)}".ljust(24) + "# precision, recall and F1 are about this class\n"
    positive = positive if guessed.positive else ""
    test = (
        'test = "14d"            # the newest rows are held out'
        if guessed.time
        else "test_share = 0.2        # rows held out"
    )
    return f"""# The problem first: what is decided, on what, and what it costs to be wrong.
[project]
name = {_quoted(_named(name))}

[problem]
decision = "say here what is decided with the answers"
source = "rows"
label = {_quoted(guessed.label)}
task = {_quoted(guessed.task)}
metric = {_quoted(metric)}
{positive}owner = "say here who answers for it"
cost_of_training = 1.0
cost_of_error = 1.0

[sources.rows]
path = {_quoted(path)}
{time}{key}
{left_out}[inputs]
request = [
{inputs},
]

[training]
{test}

[gate]                  # a candidate must beat the trivial baseline, and not be worse than the champion by more
{f"margin = {margin}":<24}# in {unit}

[rollout]               # a new release answers a share of the requests until so many labels have judged it
share = 0.2
minimum = {labels}
{f"margin = {margin}":<24}# proven to be no worse than this, it is promoted

[watch]                 # without it, a release takes no production traffic
notify = ["log"]

[[watch.values]]        # what users feel; it needs labels: POST /labels
value = {_quoted(metric)}
{f"limit = {limit}":<24}# how much worse than at release
window = "{window}"
minimum = 200
action = "retrain"

[[watch.values]]        # inputs that are not what the model has learned from
value = "drift"
limit = 0.3             # the share of columns that moved
window = "{window}"
minimum = 200
action = "retrain"

{_age(guessed, now)}
[[triggers]]            # new rows are judged, and let in
name = "new data"
on = "data"
where = {{ subject = "rows" }}
pipeline = "ingestion"
cooldown = "1m"         # what comes within one is let in together

[[triggers]]            # the first model, as soon as there are rows
name = "first model"
on = "champion.missing"
pipeline = "training"

[[triggers]]
name = "watch"
cron = "0 */6 * * *"
pipeline = "watching"

[[triggers]]            # a new model only where the watch calls for one
name = "worse or different"
on = "verdict"
where = {{ action = "retrain" }}
pipeline = "training"
cooldown = "14d"        # a trial is over by then
budget = 1              # a day, however short the cooldown
"""


_PIPELINE = '''"""The pipelines of this project: the recipes as they are; write steps of your own beside them."""

from tidemill.recipes import ingestion, materialization, training, watching

__all__ = ["ingestion", "materialization", "training", "watching"]
'''

_FEATURES = '''"""The feature views of this project: what is looked up for an entity, besides what comes with a request.

    from tidemill import Entity, FeatureView

    customer = FeatureView(
        name="customer", entity=Entity("customer", ("customer_id",)), source="customers", columns=("age", "region")
    )

Name a view under `[inputs] views` in tidemill.toml to use it.
"""
'''

_TESTS = '''"""Tests of this project; `python -m pytest` runs them."""

from pathlib import Path

from tidemill.testing.project import list_unwatched_models, plan_pipelines

PROJECT = Path(__file__).parent.parent


def test_every_pipeline_can_be_planned() -> None:
    assert plan_pipelines(PROJECT)


def test_every_model_is_watched() -> None:
    assert list_unwatched_models(PROJECT) == []
'''
