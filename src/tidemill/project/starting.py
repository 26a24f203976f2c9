"""Starts a project: reads a table, guesses what is what, and writes files that run at once and say what was guessed."""

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from msgspec import Struct

from tidemill.core.model import Task
from tidemill.errors import DataError, InputError

_FEW = 20
_KEY_LIKE = re.compile(r"(^|_)(id|key|uuid|number|no)$|id$", re.IGNORECASE)


class Guess(Struct, frozen=True, kw_only=True):
    """What a table's columns seem to be; `excluded` says why each is left out."""

    label: str
    task: Task
    time: str | None
    key: tuple[str, ...]
    inputs: tuple[str, ...]
    excluded: dict[str, str]
    spread: float


def guess(
    frame: pl.DataFrame, label: str, *, time: str = "", key: str = "", task: str = "", exclude: tuple[str, ...] = ()
) -> Guess:
    """What the columns of a table seem to be.

    Raises
    ------
    InputError
        if a column that is named is not there.
    DataError
        if the label is of one class only, or a column is null in every row.
    """
    for name in (label, *filter(None, (time, key)), *exclude):
        if name not in frame.columns:
            raise InputError(f"the table has no column {name!r}", f"its columns: {', '.join(frame.columns)}")
    kind = _task_of(frame[label], task)
    empty = [c for c in frame.columns if frame[c].null_count() == frame.height and c not in exclude and c != label]
    if empty:
        raise DataError(f"column {empty[0]!r} is null in every row", f"leave it out: --exclude {empty[0]}")
    when = time or next((c for c in frame.columns if frame.schema[c].is_temporal() and c != label), "")
    found_key = key or next((c for c in frame.columns if _is_key(frame, c) and c not in (label, when)), "")
    excluded = dict.fromkeys(exclude, "as asked")
    for name in frame.columns:
        if name in (label, when, found_key) or name in excluded:
            continue
        distinct = frame[name].n_unique()
        if distinct == 1:
            excluded[name] = "it has one value only"
        elif frame.schema[name] == pl.String and distinct > 0.9 * frame.height and frame.height > _FEW:
            excluded[name] = "nearly every row has a text of its own"
    inputs = tuple(c for c in frame.columns if c not in (label, found_key) and c not in excluded)
    if not [name for name in inputs if name != when]:
        raise DataError("no column is left to learn from", "give a table with columns beside the label")
    spread = float(frame[label].cast(pl.Float64).std() or 0.0) if kind == "regression" else 0.0  # type: ignore[arg-type]
    return Guess(
        label=label,
        task=kind,
        time=when or None,
        key=(found_key,) if found_key else (),
        inputs=inputs,
        excluded=excluded,
        spread=spread,
    )


def _task_of(label: pl.Series, task: str) -> Task:
    known = label.drop_nulls()
    if known.is_empty():
        raise DataError(f"label {label.name!r} is null in every row", "give rows whose label is known")
    distinct = known.n_unique()
    if distinct == 1:
        raise DataError(f"label {label.name!r} has one class only: {known[0]!r}", "give rows of at least two classes")
    if task:
        return "regression" if task == "regression" else "classification"
    if not label.dtype.is_numeric():
        return "classification"
    whole = label.dtype.is_integer() or bool((known == known.round()).all())
    return "classification" if whole and distinct <= _FEW else "regression"


def _is_key(frame: pl.DataFrame, name: str) -> bool:
    kind = frame.schema[name]
    named = kind.is_integer() or kind == pl.String
    return named and bool(_KEY_LIKE.search(name)) and frame[name].n_unique() == frame.height


def write_project(folder: Path, guessed: Guess, table: Path) -> None:
    """Write the files of a project around a table, which is copied into it.

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
        kept = folder / "data" / f"{folder.name}{table.suffix.lower()}"
        if table.resolve() != kept.resolve():
            shutil.copyfile(table, kept)
        for name, text in _files(folder, guessed, kept).items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as refused:
        raise InputError(
            f"{folder} cannot be written: {refused.strerror}", "choose a folder that you may write"
        ) from None


def _files(folder: Path, guessed: Guess, table: Path) -> dict[str, str]:
    return {
        "tidemill.toml": _policy(folder.name, guessed, f"data/{table.name}"),
        "pipeline.py": _PIPELINE,
        "features.py": _FEATURES,
        "tests/test_project.py": _TESTS,
        ".gitignore": ".tidemill/\n__pycache__/\n",
    }


def _quoted(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _policy(name: str, guessed: Guess, path: str) -> str:
    classification = guessed.task == "classification"
    metric, limit = ("log_loss", 0.1) if classification else ("rmse", float(f"{0.2 * guessed.spread:.3g}") or 0.1)
    left_out = "".join(f"# left out: {column} ({why})\n" for column, why in guessed.excluded.items())
    inputs = ",\n".join(f"    {_quoted(column)}" for column in guessed.inputs)
    time = (
        f"time = {_quoted(guessed.time)}\n" if guessed.time else "# time = …           # the column of the event time\n"
    )
    key = (
        f"key = {_quoted(list(guessed.key))}\n"
        if guessed.key
        else '# key = ["…"]        # the columns that name a row\n'
    )
    test = (
        'test = "14d"            # the newest rows are held out'
        if guessed.time
        else "test_share = 0.2        # rows held out"
    )
    return f"""# The problem first: what is decided, on what, and what it costs to be wrong.
[project]
name = {_quoted(re.sub(r"[^A-Za-z0-9_-]", "-", name).lstrip("-0123456789_") or "project")}

[problem]
decision = "say here what is decided with the answers"
source = "rows"
label = {_quoted(guessed.label)}
task = {_quoted(guessed.task)}
metric = {_quoted(metric)}
owner = "say here who answers for it"
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
margin = 0.0

[rollout]               # a new release answers a share of the requests until so many labels have judged it
share = 0.2
minimum = 300

[watch]                 # without it, a release takes no production traffic
notify = ["log"]

[[watch.values]]
value = {_quoted(metric)}
limit = {limit}            # how much worse than at release
window = "7d"
minimum = 200
action = "retrain"

[[watch.values]]
value = "drift"
limit = 0.3             # the share of columns that moved
window = "7d"
minimum = 500
action = "retrain"

[[triggers]]
name = "new data"
on = "data"
where = {{ subject = "rows" }}
pipeline = "training"
cooldown = "1m"

[[triggers]]
name = "watch"
cron = "0 */6 * * *"
pipeline = "watching"

[[triggers]]
name = "worse or different"
on = "verdict"
where = {{ action = "retrain" }}
pipeline = "training"
cooldown = "1d"
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

from tidemill.clock import SystemClock
from tidemill.flow.plan import plan
from tidemill.project.project import Project

PROJECT = Project(Path(__file__).parent.parent)


def test_every_pipeline_can_be_planned() -> None:
    for pipeline in PROJECT.code.pipelines.values():
        assert plan(pipeline, {}, PROJECT, SystemClock()).nodes


def test_every_model_is_watched() -> None:
    assert all(model.watch.values for model in PROJECT.policy.models.values())
'''
