"""The reference page of the Python interface, from the docstrings of the public names."""

import enum
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import NODEFAULT, Struct, structs

import tidemill

_INTRODUCTION = """
Import these names from `tidemill`: `from tidemill import open_session`. They are imported when they are first used, so
`import tidemill` takes less than 100 ms and loads no machine-learning library.
"""
_STABLE = "stable: a change that breaks your code needs a new minor version (before 1.0) or major version (from 1.0 on)"
_PROVISIONAL = "provisional: it can change in any version; the changelog lists the change"
_STABILITY = {
    "every name on this page (`tidemill.__all__`)": _STABLE,
    "the errors in `tidemill.errors`, listed with the [exit codes](exit-codes.md)": _STABLE,
    "the pipelines `ingestion`, `materialization`, `training` and `watching` in `tidemill.recipes`": _STABLE,
    "the steps in `tidemill.recipes.ingestion`, `tidemill.recipes.rows`, `tidemill.recipes.fitting` and "
    "`tidemill.recipes.training`, which [a pipeline of your own](../howto/own-steps.md) can call": _PROVISIONAL,
    "the resource types in `tidemill.core.resources`, which a step can have as parameters": _PROVISIONAL,
    "the test suites in `tidemill.testing`, for [authors of plugins](../contributing.md)": _PROVISIONAL,
    "every other module": "internal: it changes without notice",
}
_GROUPS = {
    "Notebooks and scripts": ("open_session", "run", "predict", "Session", "Run"),
    "Pipelines": ("step", "pipeline", "metric", "ModelPolicy", "FeatureSet", "Verdict", "Model"),
    "Preparation of inputs": ("fit_encoding", "Encoding"),
    "Features": ("Entity", "FeatureView", "Aggregate", "transformation"),
}
_OPAQUE = {
    "Session": "An open project. `open_session` returns it; `run` and `predict` use it. Its attributes are internal."
}
_SECTION = re.compile(r"^(Parameters|Attributes|Returns|Raises|Examples)\n-+\n", re.MULTILINE)


def build_python_page(mark: str) -> str:
    """Return the whole page, with every public name once."""
    grouped = [name for names in _GROUPS.values() for name in names]
    missing = set(tidemill.__all__) - {"__version__"} - set(grouped)
    if missing or len(grouped) != len(set(grouped)):
        raise SystemExit(f"scripts/python_reference.py: add to _GROUPS: {', '.join(sorted(missing))}")
    stability = [
        "| names | stability |",
        "| --- | --- |",
        *(f"| {names} | {level} |" for names, level in _STABILITY.items()),
    ]
    parts = ["# Python", mark, " ".join(_INTRODUCTION.split()), "## What is stable", "\n".join(stability)]
    parts.append("Commands, HTTP requests and replies, and the keys of `tidemill.toml` are stable interfaces too.")
    for title, names in _GROUPS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _entry(name, getattr(tidemill, name))
    return "\n\n".join(parts)


def _entry(name: str, member: Any) -> Iterator[str]:
    yield f"### {name}"
    if name in _OPAQUE:
        yield _OPAQUE[name]
        return
    if not inspect.isclass(member):
        yield f"```py\n{_signature(name, member)}\n```"
    elif issubclass(member, Struct):
        yield f"```py\n{_fields(name, member)}\n```"
    yield from _sections(inspect.getdoc(member) or "")
    if inspect.isclass(member):
        members = [_member(key, value) for key, value in vars(member).items() if _is_public(key, value)]
        if members:
            yield "\n".join(members)


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return a call with its parameters; a long call has one parameter on each line."""
    signature = inspect.signature(function)
    parts: list[str] = []
    previous = None
    for parameter in signature.parameters.values():
        if previous is parameter.POSITIONAL_ONLY and parameter.kind is not previous:
            parts.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and previous is not parameter.kind:
            parts.append("*")
        previous = parameter.kind
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{parameter.name}: {_type_name(parameter.annotation)}{default}")
    if previous is inspect.Parameter.POSITIONAL_ONLY:
        parts.append("/")
    returned = _type_name(signature.return_annotation)
    text = f"{name}({', '.join(parts)}) -> {returned}"
    return text if len(text) <= 100 else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f") -> {returned}"


def _fields(name: str, member: type[Struct]) -> str:
    """Return a struct's constructor with its fields."""
    lines = []
    for field, annotation in zip(structs.fields(member), _annotations(member), strict=True):
        default = field.default
        if default is NODEFAULT and field.default_factory is not NODEFAULT:
            default = field.default_factory()
        shown = default.value if isinstance(default, enum.Enum) else default
        written = "" if default is NODEFAULT else " = …" if isinstance(shown, Struct) else f" = {shown!r}"
        lines.append(f"    {field.name}: {annotation}{written},\n")
    return f"{name}(\n{''.join(lines)})"


def _annotations(member: type[Struct]) -> list[str]:
    hints = {
        key: value for base in reversed(member.__mro__) for key, value in vars(base).get("__annotations__", {}).items()
    }
    return [_type_name(hints[field.name]) for field in structs.fields(member)]


def _type_name(hint: Any) -> str:
    plain_class = inspect.isclass(hint) and not hasattr(hint, "__args__")
    text = str(hint if isinstance(hint, str) else hint.__name__ if plain_class else hint)
    text = re.sub(r"Annotated\[str, (?:msgspec\.)?Meta\([^)]*\)[^)]*\)\]", "str", text.replace("typing.", ""))
    text = re.sub(r"Optional\[(\w+)\]", r"\1 | None", text)
    return re.sub(r"\b[a-z_]+(?:\.\w+)*\.(?=\w)", "", text).replace("~", "")


def _sections(docstring: str) -> Iterator[str]:
    """Iterate over the parts of a docstring: its text, and its parameters and errors as lists."""
    text, *sections = _SECTION.split(docstring)
    if text.strip():
        yield _flowed(text)
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title == "Examples":
            yield f"```py\n{body.strip()}\n```"
            continue
        yield f"**{title}**"
        items = re.findall(r"^(\S.*)\n((?:    .*\n?|\n)*)", body, re.MULTILINE)
        yield "\n".join(f"- `{head.strip()}`: {' '.join(about.split())}" for head, about in items)


def _flowed(text: str) -> str:
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.split("\n")
        kept = paragraph if lines[0].startswith((">>>", "- ", "    ")) else " ".join(paragraph.split())
        paragraphs.append(f"```py\n{kept}\n```" if lines[0].startswith(">>>") else kept)
    return "\n\n".join(paragraphs)


def _is_public(name: str, member: Any) -> bool:
    described = inspect.isfunction(member) or isinstance(member, property | classmethod)
    return described and not name.startswith("_") and bool(inspect.getdoc(member))


def _member(name: str, member: Any) -> str:
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    shown = (
        name
        if isinstance(member, property)
        else f"{name}({', '.join(list(inspect.signature(function).parameters)[1:])})"
    )
    about = " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())
    return f"- `.{shown}`: {about}"
