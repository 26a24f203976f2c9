"""Reads `tidemill.toml`: an error names the line and the cure."""

import hashlib
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from tidemill.core.policy import Policy
from tidemill.errors import ConfigurationError
from tidemill.project.lines import line_of
from tidemill.project.meanings import nearest
from tidemill.project.rules import Rules

FILE = "tidemill.toml"
_MODEL_TABLES = ("problem", "inputs", "training", "gate", "rollout", "watch")
_STEP = re.compile(r"[\w-]+|\[\.\.\.\]|\[\d+\]")
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
    Rules(policy, file, text, short=bool(trail), code=(base or file).parent / "pipeline.py").hold()
    return policy


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
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
    line = line_of(text, [steps[2:], steps] if trail and steps[:1] == ["models"] else [steps])
    where = f"{file.name}, line {line}" if line else file.name
    about = f" ({path})" if path else ""
    return ConfigurationError(f"{where}: {_plain(what)}{about}", _cure(what, steps))


def _plain(what: str) -> str:
    if "matching regex" in what and "[smhdw]" in what:
        return "this is not a length of time"
    return what[0].lower() + what[1:]


def _cure(what: str, steps: list[str]) -> str:
    kind = _kind_at(steps)
    if "unknown field" in what:
        known = _keys(_kind_at(steps[:-1])) + (["project", *_MODEL_TABLES, "models"] if len(steps) == 1 else [])
        near = get_close_matches(steps[-1], known, 1)
        return (
            f"check its spelling: did you mean `{near[0]}`?"
            if near
            else f"remove it, or check its spelling; known here: {', '.join(known)}"
        )
    if invalid := re.search(r"invalid enum value '(.*)'", what, re.IGNORECASE):
        known = [one for one in _choices(kind) if one]
        return f"one of: {', '.join(known)}{nearest(invalid[1], known)}"
    if missing := re.search(r"required field `(\w+)`", what):
        return f"add it there: {missing[1]} = …"
    if "[smhdw]" in what:
        return 'write a number and a unit, such as "30m", "12h", "7d"; none is negative'
    if steps[-1:] == ["[...]"] and "thresholds" in steps:
        return 'write a sign and a number, in quotes: ">= 0.7"'
    if re.search(r"[Ee]xpected `(float|int)( \| null)?`, got `str`", what):
        return "write a number, without quotes"
    return next((cure for said, cure in _CURES.items() if re.search(said, what)), "see the reference of tidemill.toml")


_CURES = {
    r"`int.*got `float": "write a whole number",
    r"`(int|float)[^`]*` [<>]": "write a number in that range",
    r"`array`, got `str`": 'write it in brackets: ["…"]',
    r"`str[^`]*`, got `(int|float|bool)": "write it in quotes",
    r"`bool[^`]*`, got": "write true or false, without quotes",
    r"`object`, got": "make it a table: [NAME], or { KEY = … }",
}


def _kind_at(steps: list[str]) -> Any:
    """What the policy has where these steps lead; None where that is not known."""
    import msgspec.inspect  # an error may take its time, a start may not

    kind: Any = msgspec.inspect.type_info(Policy)
    for step in steps:
        if isinstance(kind, msgspec.inspect.UnionType):
            kind = next((one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)), None)
        if isinstance(kind, msgspec.inspect.StructType):
            kind = next((field.type for field in kind.fields if field.encode_name == step), None)
        elif isinstance(kind, msgspec.inspect.DictType):
            kind = kind.value_type
        elif isinstance(kind, msgspec.inspect.VarTupleType):
            kind = kind.item_type
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = next((one for one in kind.types if isinstance(one, msgspec.inspect.StructType)), kind)
    return kind


def _keys(kind: Any) -> list[str]:
    return [field.encode_name for field in getattr(kind, "fields", ())]


def _choices(kind: Any) -> list[str]:
    return [str(value) for value in getattr(kind, "values", ())]
