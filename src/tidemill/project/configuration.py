"""Reads `tidemill.toml`: an error names the line and the cure."""

import hashlib
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from tidemill.clock import span
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.errors import ConfigurationError

FILE = "tidemill.toml"
_MODEL_TABLES = ("problem", "inputs", "training", "gate", "rollout", "watch")
_STEP = re.compile(r"[\w-]+|\[\.\.\.\]|\[\d+\]")
_HEADER = re.compile(r"\s*(\[\[?)([^\]]+)\]")
_ASSIGNED = re.compile(r"\s*([\w.\"-]+)\s*=")
_KEY = re.compile(r"[\w-]+")
_NAME = re.compile(r"[A-Za-z][\w-]*")
_PLACE = re.compile(r" - at `(?:key in )?`?\$?([^`]*)`")


def find_project(start: Path) -> Path:
    """The folder at or above `start` that has a `tidemill.toml`.

    Raises
    ------
    ConfigurationError
        where there is none.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).is_file():
            return folder
    raise ConfigurationError(
        f"no {FILE} in {start.resolve()} or above it",
        "go to your project's folder, or make a project: `tidemill init NAME`",
    )


def read_policy(file: Path, base: Path | None = None) -> Policy:
    """The policy that a file states; what its tables leave out comes from `base`, where there is one.

    A project of one model states it in top-level tables (`[problem]`, `[training]`, …) and the model has the
    project's name; several stand under `[models.NAME.…]`.

    Raises
    ------
    ConfigurationError
        with the line and the cure.
    """
    text, tables = _read(file)
    if base is not None:
        tables = _read(base)[1] | tables
    shaped, trail = _shape(tables)
    try:
        policy = msgspec.convert(shaped, Policy)
    except msgspec.ValidationError as wrong:
        raise _explain(file, text, str(wrong), trail) from None
    _hold(policy, file.name)
    return policy


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as unread:
        cure = "check the path and its permissions"
        raise ConfigurationError(f"{file} cannot be read: {unread.strerror}", cure) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as wrong:
        raise ConfigurationError(f"{file.name}: {wrong}", "mend that line: it is not TOML") from None


def digest(policy: Policy) -> str:
    """The name of a policy: the SHA-256 of what it says."""
    return hashlib.sha256(msgspec.json.encode(policy, order="deterministic")).hexdigest()


def _shape(tables: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Bring the short form of a one-model project into the form of many; the trail of the model in the file."""
    tables = dict(tables)
    project = tables.pop("project", {})
    shaped: dict[str, Any] = {"name": project.get("name", "") if isinstance(project, dict) else ""}
    models = tables.pop("models", {})
    trail = ""
    own = {name: tables.pop(name) for name in _MODEL_TABLES if name in tables}
    if own and isinstance(models, dict):
        models = {**models, shaped["name"]: own}
        trail = f"models.{shaped['name']}."
    if isinstance(models, dict):
        models = {name: {**model, "name": name} if isinstance(model, dict) else model for name, model in models.items()}
    shaped["models"] = models
    shaped["sources"] = tables.pop("sources", {})
    return shaped | tables, trail


def _explain(file: Path, text: str, wrong: str, trail: str) -> ConfigurationError:
    place = _PLACE.search(wrong)
    path = re.sub(r"\[\.\.\.\]", "", place[1] if place else "").strip(".")
    path = path.removeprefix("models.") if trail else path
    what = _PLACE.sub("", wrong)
    unknown = re.search(r"unknown field `(\w+)`", wrong)
    steps = _STEP.findall(place[1] if place else "") + ([unknown[1]] if unknown else [])
    line = _line_of(text, [steps[2:], steps] if trail and steps[:1] == ["models"] else [steps])
    where = f"{file.name}, line {line}" if line else file.name
    about = f" ({path})" if path else ""
    cure = "remove it, or check its spelling" if unknown else "see the reference of tidemill.toml for what goes there"
    return ConfigurationError(f"{where}: {what[0].lower() + what[1:]}{about}", cure)


def _line_of(text: str, paths: list[list[str]]) -> int | None:
    """The line that says what one of these paths leads to, or opens the innermost table around it, or one within.

    A step of a path is a name, `[...]` for any name, or `[0]` for a place in an array.
    """
    table: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    best, found = 0, None
    for number, row in enumerate(text.splitlines(), 1):
        here = table
        if header := _HEADER.match(row):
            here = table = _KEY.findall(header[2])
            if header[1] == "[[":
                place = places[tuple(table)] = places.get(tuple(table), -1) + 1
                here = table = [*table, f"[{place}]"]
        elif assigned := _ASSIGNED.match(row):
            here = table + _KEY.findall(assigned[1])
        for path in paths:
            fits = all(a in (b, "[...]") for a, b in zip(path, here, strict=False))
            if fits and best < min(len(here), len(path)):
                best, found = min(len(here), len(path)), number
    return found


def _hold(policy: Policy, file: str) -> None:
    """What types cannot say: names that must exist, lengths of time that must be ones."""
    if not _NAME.fullmatch(policy.name):
        raise ConfigurationError(
            f"{file}: the project's name {policy.name!r} is not a name",
            'write one in [project]: name = "flights" (letters, digits, - and _)',
        )
    for source in policy.sources.values():
        span(source.delay)
    for model in policy.models.values():
        _hold_model(model, policy, file)
    _hold_retention(policy, file)
    for trigger in policy.triggers:
        if bool(trigger.on) == bool(trigger.cron):
            raise ConfigurationError(
                f"{file}: trigger {trigger.name!r} must have either `on` (a kind of event) or `cron`", "give it one"
            )
        span(trigger.cooldown)
        if trigger.cron:
            _hold_cron(trigger.name, trigger.cron, file)
        if trigger.model and trigger.model not in policy.models:
            raise ConfigurationError(
                f"{file}: trigger {trigger.name!r} is for a model {trigger.model!r} that is not defined",
                f"defined: {', '.join(policy.models)}",
            )


def _hold_model(model: ModelPolicy, policy: Policy, file: str) -> None:
    if not _NAME.fullmatch(model.name):
        raise ConfigurationError(
            f"{file}: the model's name {model.name!r} is not a name",
            "use letters, digits, - and _, such as late_flights",
        )
    if model.problem.source not in policy.sources:
        raise ConfigurationError(
            f"{file}: model {model.name!r} reads the source {model.problem.source!r}, which is not defined",
            f"add [sources.{model.problem.source}] with its path",
        )
    lengths = [model.training.test, model.rollout.maximum, *(value.window for value in model.watch.values)]
    for length in lengths:
        span(length)


def _hold_retention(policy: Policy, file: str) -> None:
    """A journal is not cut shorter than what is still looked back on."""
    kept = policy.retention
    span(kept.runs), span(kept.orphans)
    if kept.journal is None:
        return
    for model in policy.models.values():
        learns = model.training.feedback
        if learns and not model.training.window:
            raise ConfigurationError(
                f"{file}: [retention] journal = {kept.journal!r}, but model {model.name!r} learns from all of it "
                "(feedback = true)",
                "give its [training] a window, or keep the journal: leave `journal` out",
            )
        looks = [*(value.window for value in model.watch.values), model.rollout.maximum]
        looks += [model.training.window] if learns and model.training.window else []
        longest = max(looks, key=span)
        # A label may be known some time before its prediction's window begins: readers look a day further back.
        if span(kept.journal) < span(longest) + timedelta(days=1):
            raise ConfigurationError(
                f"{file}: [retention] journal = {kept.journal!r} is shorter than model {model.name!r} looks back "
                f"({longest}, and a day for labels)",
                "keep it longer, or shorten that window",
            )


def _hold_cron(trigger: str, cron: str, file: str) -> None:
    from croniter import CroniterBadDateError, croniter

    if not croniter.is_valid(cron):
        raise ConfigurationError(f"{file}: the cron of trigger {trigger!r} is not one: {cron!r}", 'such as "0 6 * * *"')
    try:
        croniter(cron).get_next()
    except CroniterBadDateError:
        raise ConfigurationError(
            f"{file}: the cron of trigger {trigger!r} never fires: {cron!r}", "name a day that exists"
        ) from None
