"""Reads `tidemill.toml`; its errors name the line and the cure."""

import hashlib
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from tidemill.core.policy import Policy
from tidemill.errors import ConfigurationError
from tidemill.project.lines import find_line
from tidemill.project.meanings import suggest_name
from tidemill.project.rules import PolicyRules

FILE = "tidemill.toml"
_MODEL_TABLES = ("problem", "inputs", "training", "gate", "rollout", "serving", "watch", "regimes")
_STEP = re.compile(r"[\w-]+|\[\.\.\.\]|\[\d+\]")
_PATH = re.compile(r" - at `(?:key in )?`?\$?([^`]*)`")


def find_project(start: Path) -> Path:
    """Return the folder with a `tidemill.toml`: `start` or the nearest one above it.

    Raises
    ------
    ConfigurationError
        if there is none.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).is_file():
            return folder
    raise ConfigurationError(
        f"no {FILE} in {start.resolve()} or above it",
        "go to the folder of your project, or create one: `tidemill init NAME`",
    )


def read_policy(file: Path, base: Path | None = None) -> Policy:
    """Return the policy in a file; tables that it does not have come from `base`.

    A project with one model has the tables `[problem]`, `[training]`, … at the top level, and the model has the name
    of the project. Several models have tables `[models.NAME.…]`.

    Raises
    ------
    ConfigurationError
        if the policy is wrong, with the line and the cure.
    """
    text, tables = _read(file)
    if base is not None:
        tables = _read(base)[1] | tables
    shaped, prefix = _shape(tables)
    try:
        policy = msgspec.convert(shaped, Policy)
    except msgspec.ValidationError as error:
        raise _explain(file, text, str(error), prefix) from None
    PolicyRules(policy, file, text, short=bool(prefix), code=(base or file).parent / "pipeline.py").check()
    return policy


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except OSError as error:
        cure = "check the path and its permissions"
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}", cure) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file.name}: {error}", "fix this line: it is not TOML") from None


def digest_policy(policy: Policy) -> str:
    """Return the SHA-256 of the values of a policy; comments and order do not change it."""
    return hashlib.sha256(msgspec.json.encode(policy, order="deterministic")).hexdigest()


def _shape(tables: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the tables in the form for several models, and the prefix of the only model, empty if it has none."""
    tables = dict(tables)
    project = tables.pop("project", {})
    shaped: dict[str, Any] = {"name": project.get("name", "") if isinstance(project, dict) else ""}
    models = tables.pop("models", {})
    prefix = ""
    top_level = {name: tables.pop(name) for name in _MODEL_TABLES if name in tables}
    if top_level and isinstance(models, dict):
        models = {**models, shaped["name"]: top_level}
        prefix = f"models.{shaped['name']}."
    if isinstance(models, dict):
        models = {name: {**model, "name": name} if isinstance(model, dict) else model for name, model in models.items()}
    shaped["models"] = models
    shaped["sources"] = tables.pop("sources", {})
    return shaped | tables, prefix


def _explain(file: Path, text: str, message: str, prefix: str) -> ConfigurationError:
    match = _PATH.search(message)
    path = re.sub(r"\[\.\.\.\]", "", match[1] if match else "").strip(".")
    path = path.removeprefix("models.") if prefix else path
    problem = _PATH.sub("", message)
    unknown = re.search(r"unknown field `([^`]+)`", message)
    steps = _STEP.findall(match[1] if match else "") + ([unknown[1]] if unknown else [])
    line = find_line(text, [steps[2:], steps] if prefix and steps[:1] == ["models"] else [steps])
    position = f"{file.name}, line {line}" if line else file.name
    about = f" ({path})" if path else ""
    return ConfigurationError(f"{position}: {_simplify(problem)}{about}", _find_cure(problem, steps))


def _simplify(problem: str) -> str:
    if "matching regex" in problem and "[smhdw]" in problem:
        return "this is not a duration"
    return problem[0].lower() + problem[1:]


def _find_cure(problem: str, steps: list[str]) -> str:
    kind = _find_kind(steps)
    if "unknown field" in problem:
        known = _list_keys(_find_kind(steps[:-1])) + (["project", *_MODEL_TABLES, "models"] if len(steps) == 1 else [])
        near = get_close_matches(steps[-1], known, 1)
        return (
            f"check its spelling: did you mean `{near[0]}`?"
            if near
            else f"remove it, or check its spelling; the keys here are: {', '.join(known)}"
        )
    if invalid := re.search(r"invalid enum value '(.*)'", problem, re.IGNORECASE):
        known = [choice for choice in _list_choices(kind) if choice]
        return f"use one of: {', '.join(known)}{suggest_name(invalid[1], known)}"
    if missing := re.search(r"required field `(\w+)`", problem):
        return f"add {missing[1]} = …"
    if "[smhdw]" in problem:
        return 'write a number and a unit, such as "30m", "12h", "7d"; it cannot be negative'
    if steps[-1:] == ["[...]"] and "thresholds" in steps:
        return 'write a comparison in quotes: ">= 0.7"'
    if re.search(r"[Ee]xpected `(float|int)( \| null)?`, got `str`", problem):
        return "write a number, without quotes"
    return next(
        (cure for pattern, cure in _CURES.items() if re.search(pattern, problem)), "see the reference of tidemill.toml"
    )


_CURES = {
    r"`int.*got `float": "write a whole number",
    r"`(int|float)[^`]*` [<>]": "write a number in this range",
    r"`array`, got `str`": 'write it in brackets: ["…"]',
    r"`str[^`]*`, got `(int|float|bool)": "write it in quotes",
    r"`bool[^`]*`, got": "write true or false, without quotes",
    r"`object`, got": "make it a table: [NAME], or { KEY = … }",
}


def _find_kind(steps: list[str]) -> Any:
    """Return the type of the policy at a path, or None if it is unknown."""
    import msgspec.inspect  # only errors need it, and it loads slowly

    kind: Any = msgspec.inspect.type_info(Policy)
    for step in steps:
        if isinstance(kind, msgspec.inspect.UnionType):
            kind = next((option for option in kind.types if not isinstance(option, msgspec.inspect.NoneType)), None)
        if isinstance(kind, msgspec.inspect.StructType):
            kind = next((field.type for field in kind.fields if field.encode_name == step), None)
        elif isinstance(kind, msgspec.inspect.DictType):
            kind = kind.value_type
        elif isinstance(kind, msgspec.inspect.VarTupleType):
            kind = kind.item_type
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = next((option for option in kind.types if isinstance(option, msgspec.inspect.StructType)), kind)
    return kind


def _list_keys(kind: Any) -> list[str]:
    return [field.encode_name for field in getattr(kind, "fields", ())]


def _list_choices(kind: Any) -> list[str]:
    return [str(value) for value in getattr(kind, "values", ())]
