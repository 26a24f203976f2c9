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
        "pipeline.py": _rendered("pipeline.py"),
        "features.py": _rendered("features.py"),
        "tests/test_project.py": _rendered("test_project.py"),
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
    return _rendered(
        "tidemill.toml",
        name=_named(name),
        guessed=guessed,
        metric=metric,
        positive=positive,
        path=path,
        time=time,
        key=key,
        left_out=left_out,
        inputs=inputs,
        test=test,
        margin=margin,
        limit=limit,
        unit=unit,
        labels=labels,
        window=window,
        age=_age(guessed, now),
    )


def _rendered(file: str, **values: Any) -> str:
    """A file of a new project, from its template."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("tidemill.project"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    templates.filters["toml"] = _quoted
    return templates.get_template(f"{file}.jinja").render(values)
