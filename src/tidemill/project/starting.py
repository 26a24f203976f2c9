"""Creates a project: writes files that run at once with a table and list the guessed roles of its columns."""

import math
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tidemill.core.dialect import COMPRESSIONS, Dialect
from tidemill.core.metric import default_metric
from tidemill.delta import require_usable_folder
from tidemill.errors import InputError
from tidemill.project.generated_tests import list_test_files
from tidemill.project.guessing import TableGuess
from tidemill.project.rhythm import choose_looks, describe_training_rows

_NEW_ROWS = 200  # so many new rows can change a model
_GROWTH = 0.1  # so many more rows improve a model that has learned few
_CANARY_ROWS = 0.8  # the share of the rows that the champion serves in a canary
_NEEDED_LABELS = 210  # the minimum of the watch, and a few more
_LARGEST = 1e300  # a limit in the settings must be finite
_PATTERN = re.compile(r"[*?\[\]]")


def write_project(folder: Path, guessed: TableGuess, table: Path, dialect: Dialect | None = None) -> None:
    """Write the files of a project with a copy of a table; `dialect` is how the values of its file are written.

    Raises
    ------
    InputError
        if the folder contains a project already, cannot be written, or has a path that a table cannot have.
    """
    require_usable_folder(folder)
    if (folder / "tidemill.toml").exists():
        raise InputError(f"{folder} contains a tidemill.toml already", "choose another name, or delete it")
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "tests").mkdir(exist_ok=True)
        copy = folder / "data" / f"{_PATTERN.sub('-', folder.name)}{_find_suffixes(table)}"
        if table.resolve() != copy.resolve():
            shutil.copyfile(table, copy)
        for name, text in _render_files(folder, guessed, copy, dialect or Dialect()).items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}", "choose a folder with write permission"
        ) from None


def _find_suffixes(table: Path) -> str:
    """Return the suffix of a table, with that of its format if it is compressed."""
    suffixes = [suffix.lower() for suffix in table.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] and suffixes[-1] in COMPRESSIONS else suffixes[-1:])


def _render_files(folder: Path, guessed: TableGuess, table: Path, dialect: Dialect) -> dict[str, str]:
    return {
        "tidemill.toml": _render_policy(folder.name, guessed, f"data/{table.name}", dialect),
        "pipeline.py": _render("pipeline.py"),
        "features.py": _render("features.py"),
        **list_test_files(),
        ".gitignore": ".tidemill/\n__pycache__/\n",
    }


def _quote(value: Any) -> str:
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007F")  # the one character that only TOML forbids


def _choose_window(guessed: TableGuess) -> str:
    """Return the window of the watch in whole weeks, long enough for its labels.

    During a canary, the champion serves four of five rows.
    """
    daily = _CANARY_ROWS * guessed.rows_per_day
    return next((f"{days}d" for days in (7, 14) if not daily or days * daily >= _NEEDED_LABELS), "28d")


class _CanaryChoice(NamedTuple):
    """The settings of a canary that the rows of a table can decide."""

    minimum: int
    margin: float
    maximum: str
    extension: str
    cooldown: str


def _choose_canary(guessed: TableGuess) -> _CanaryChoice:
    """Return the labels, the margin and the duration of a canary, by the rows of a day.

    The canary is long enough for 60 labels, within three days and eight weeks: while it runs, most requests are served
    by an older model. Its margin is a difference that the labels of two weeks can show: it falls with the square root
    of their number, between bounds that matter for a decision.
    """
    daily = _CANARY_ROWS * guessed.rows_per_day or 50.0
    days = min(max(math.ceil(60 / daily), 3), 56)
    minimum, labels = int(max(20, min(100, days * daily / 4)) // 10 * 10), max(days, 14) * daily
    if guessed.task == "classification":
        margin = float(f"{min(max(2.5 / math.sqrt(labels), 0.02), 0.15):.2g}")
    else:
        factor = min(max(math.sqrt(540 / labels), 1.0), 2.5)
        margin = _round(0.02 * factor * guessed.spread * guessed.spread)
    return _CanaryChoice(minimum, margin, f"{days}d", f"{max(14 - days, days)}d", f"{max(days, 7)}d")


def _render_age(guessed: TableGuess) -> str:
    """Return the limit for the age of a model; as a comment without an event time, as rows then have only an arrival.

    Rows of a process change slowly even where no check can prove it: models that are fitted again every two weeks were
    better than older ones on most of the streams of `benchmarks/streams.py`. With few rows a day it takes longer until
    there are enough new ones.
    """
    days = 30.0
    if guessed.newest is not None and guessed.rows_per_day:
        days = float(min(max(math.ceil(_NEW_ROWS / guessed.rows_per_day / 7) * 7, 14), 364))
    limit = f"limit = {days}".ljust(24) + "# days since its newest training row; without new rows nothing is trained\n"
    growth = f"limit = {_GROWTH}".ljust(24) + "# the same time, as a share of that of its training rows\n"
    lines = (
        f'[[watch.values]]        # the maximum age of a model\nvalue = "age"\n{limit}action = "retrain"\n\n'
        f"[[watch.values]]        # a model that has learned few rows is fitted again earlier\n"
        f'value = "growth"\n{growth}action = "retrain"\n'
    )
    if guessed.newest is not None:
        return lines
    return "# if new rows keep arriving:\n" + "".join(f"# {line}\n" for line in lines.splitlines())


def _render_recall(guessed: TableGuess) -> str:
    """Return the trigger of recall as a comment.

    Where the rows of some hours are alike, such as prices that rise for a day, spells of one class look like regimes:
    on electricity prices releases alternated 98 times in 630 days. A person knows whether there are regimes.
    """
    rows = max(50, math.ceil(guessed.rows_per_day / 40) * 10)
    lines = (
        "[[triggers]]            # when a regime returns, the release that knows it is the champion again at once\n"
        f'name = "newest rows"\non = "predictions"\n{f"rows = {rows}".ljust(24)}# compare after this number of rows\n'
        'pipeline = "recalling"\ncooldown = "10m"        # many rows at once are compared once\n'
    )
    why = "# if the rows come from a few regimes that last for days and return (compare with `tidemill backtest`):\n"
    return why + "".join(f"# {line}\n" for line in lines.splitlines())


def _to_name(folder: str) -> str:
    """Return a name for the project and its model that can be in a URL: letters without accents."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", folder) if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9_-]", "-", plain).strip("-").lstrip("-0123456789_") or "project"


def _round(value: float) -> float:
    return float(f"{min(value, _LARGEST):.3g}") or 0.1


def _render_policy(name: str, guessed: TableGuess, path: str, dialect: Dialect) -> str:
    classes = guessed.task == "classification"
    metric, limit = default_metric(guessed.task), 0.1 if classes else _round(0.2 * guessed.spread)
    margin, unit = (0.01, "log loss") if classes else (_round(0.02 * guessed.spread * guessed.spread), "squared error")
    window, canary = _choose_window(guessed), _choose_canary(guessed)
    excluded = "".join(f"# excluded: {_quote(column)} ({why})\n" for column, why in guessed.excluded.items())
    inputs = ",\n".join(f"    {_quote(column)}" for column in guessed.inputs)
    time = (
        f"time = {_quote(guessed.time)}\n" if guessed.time else "# time = …           # the column of the event time\n"
    )
    key = (
        f"key = {_quote(list(guessed.key))}\n"
        if guessed.key
        else '# key = ["…"]        # the columns that identify a row\n'
    )
    positive = f"positive = {_quote(guessed.positive)}".ljust(24) + "# precision, recall and F1 are for this class\n"
    positive = positive if guessed.positive else ""
    spellings = ", ".join(f"{_quote(other)} = {_quote(used)}" for other, used in guessed.spellings.items())
    test = (
        'test = "14d"            # the newest rows are the test rows'
        if guessed.time
        else "test_share = 0.2        # the share of test rows"
    )
    return _render(
        "tidemill.toml",
        name=_to_name(name),
        guessed=guessed,
        metric=metric,
        positive=positive,
        spellings=f"spellings = {{ {spellings} }}\n" if spellings else "",
        path=path,
        time=time,
        key=key,
        dialect=_render_dialect(dialect),
        excluded=excluded,
        inputs=inputs,
        test=test,
        training_rows=describe_training_rows(guessed.rows, guessed.rows_per_day),
        margin=margin,
        limit=limit,
        unit=unit,
        canary=canary,
        window=window,
        age=_render_age(guessed),
        recall=_render_recall(guessed),
        looks=choose_looks(guessed.rows_per_day),
    )


def _render_dialect(dialect: Dialect) -> str:
    """Return the settings of a dialect that are not the defaults, as lines of TOML."""
    return "".join(f"{name} = {_render_setting(getattr(dialect, name))}\n" for name, _ in dialect.identity)


def _render_setting(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_quote(column)} = {_quote(entry)}' for column, entry in value.items())} }}"
    return _quote(value)


def _render(file: str, **values: Any) -> str:
    """Return a file of a new project, rendered from its template."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("tidemill.project"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    templates.filters["toml"] = _quote
    return templates.get_template(f"{file}.jinja").render(values)
