"""Edits a `tidemill.toml` in place: changes single values and triggers, and keeps comments, order and layout."""

import difflib
import re
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from tidemill.core.policy import Policy
from tidemill.core.trigger import Trigger
from tidemill.errors import ConfigurationError, InputError
from tidemill.project.configuration import FILE, read_policy

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]#]+?)\s*\]\]?\s*(#.*)?$")
_ASSIGNED = re.compile(r"(\s*)([\w-]+)(\s*=\s*)(.*)$")
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|(#.*)$')
_NEW_KEYS = ("name", "on", "where", "cron", "zone", "pipeline", "model", "cooldown")


class _Block:
    """A table of the file: its path, its index in an array of tables, and its lines from `begin` to `end`."""

    def __init__(self, path: str, index: int, begin: int, end: int) -> None:
        self.path, self.index, self.begin, self.end = path, index, begin, end


def edit_policy(file: Path, present: Policy, wanted: Policy) -> str:
    """Return the text of a policy's file, changed so that it is read as the policy `wanted`.

    Values of `[training]`, `[rollout]`, `[[watch.values]]` and `[[triggers]]` can differ, and triggers can be added or
    removed. The result is read again and compared: a file that cannot be edited is an error.

    Raises
    ------
    ConfigurationError
        if the edited text would not be the policy that is wanted, with the changes to make.
    """
    text = file.read_text(encoding="utf-8-sig")
    edited = text
    is_short = "models" not in tomllib.loads(text)
    for name, model in wanted.models.items():
        prefix = "" if is_short else f"models.{name}."
        before = present.models[name]
        for table in ("training", "rollout"):
            edited = _set_fields(edited, f"{prefix}{table}", -1, getattr(before, table), getattr(model, table))
        for index, (old, new) in enumerate(zip(before.watch.values, model.watch.values, strict=True)):
            edited = _set_fields(edited, f"{prefix}watch.values", index, old, new)
    edited = _edit_triggers(edited, present.triggers, wanted.triggers)
    if not _is_read_as(edited, file, wanted):
        changes = "; ".join(list_changes(present, wanted))
        raise ConfigurationError(
            f"{file.name} cannot be edited automatically: its layout is unusual", f"make these changes: {changes}"
        )
    return edited


def require_unchanged(file: Path, policy: Policy) -> None:
    """Raise `InputError` if a policy's file has other values than when it was read."""
    if read_policy(file) != policy:
        raise InputError(
            f"{file.name} has changed since the command read it, so nothing was written",
            "run the command again: it starts from the new values",
        )


def show_difference(before: str, after: str, name: str = FILE) -> str:
    """Return the differences of two texts in the unified form of `diff`."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} (now)", f"{name} (proposed)", lineterm=""
    )
    return "\n".join(lines)


def list_changes(present: Policy, wanted: Policy) -> list[str]:
    """Return the changed values of the models and triggers, each as `path: before → after`."""
    before, after = _flatten(msgspec.to_builtins(present)), _flatten(msgspec.to_builtins(wanted))
    return [
        f"{path}: {before.get(path, 'absent')} → {after.get(path, 'absent')}"
        for path in dict.fromkeys((*before, *after))
        if before.get(path) != after.get(path)
    ]


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list | tuple):
        members = [(str(index), member) for index, member in enumerate(value)]  # type: ignore[assignment]
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for name, member in members:
        flat |= _flatten(member, f"{path}.{name}" if path else str(name))
    return flat


def _is_read_as(text: str, file: Path, wanted: Policy) -> bool:
    """Return whether a text is read as a policy: in a temporary folder, beside a copy of the project's pipelines."""
    with tempfile.TemporaryDirectory(prefix="tidemill-policy-") as folder:
        draft, code = Path(folder) / file.name, file.with_name("pipeline.py")
        draft.write_text(text, encoding="utf-8")
        if code.exists():
            shutil.copyfile(code, draft.with_name(code.name))
        try:
            return read_policy(draft) == wanted
        except ConfigurationError:
            return False


def write_policy(file: Path, text: str) -> None:
    """Replace the text of a policy's file at once, so that an interruption leaves the old or the new one.

    Raises
    ------
    InputError
        if the file cannot be written.
    """
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(
            f"{file} cannot be written: {error.strerror}", "make it writable, or make the printed changes yourself"
        ) from None


def _set_fields(text: str, path: str, index: int, old: msgspec.Struct, new: msgspec.Struct) -> str:
    for field in msgspec.structs.fields(type(new)):
        value = getattr(new, field.name)
        if value != getattr(old, field.name):
            text = _set(text, path, index, field.encode_name, value)
    return text


def _edit_triggers(text: str, before: tuple[Trigger, ...], after: tuple[Trigger, ...]) -> str:
    names = {trigger.name: trigger for trigger in after}
    known = {trigger.name for trigger in before}
    for index, trigger in reversed(list(enumerate(before))):
        if trigger.name in names:
            text = _set_fields(text, "triggers", index, trigger, names[trigger.name])
        else:
            text = _remove(text, "triggers", index)
    for trigger in after:
        if trigger.name not in known:
            text = text.rstrip("\n") + "\n\n" + _render_trigger(trigger)
    return text


def _render_trigger(trigger: Trigger) -> str:
    values = {name: getattr(trigger, name) for name in _NEW_KEYS}
    default = Trigger(name="", pipeline="")
    lines = [f"{name} = {_quote(value)}" for name, value in values.items() if value != getattr(default, name)]
    return "\n".join(["[[triggers]]            # found by tidemill backtest --tune", *lines]) + "\n"


def _set(text: str, path: str, index: int, key: str, value: Any) -> str:
    """Set, add or (for None) remove a key of a table; a table that does not exist is added at the end."""
    lines = text.split("\n")
    block = _find(lines, path, index)
    if block is None:
        return text if value is None else text.rstrip("\n") + f"\n\n[{path}]\n{key} = {_quote(value)}\n"
    for number in range(block.begin + 1, block.end):
        match = _ASSIGNED.match(lines[number])
        if match is None:
            continue
        if match[2] == key:
            if value is None:
                del lines[number]
            else:
                lines[number] = _replace_value(match, value)
            return "\n".join(lines)
    if value is not None:
        lines.insert(block.begin + 1, f"{key} = {_quote(value)}")
    return "\n".join(lines)


def _replace_value(match: re.Match[str], value: Any) -> str:
    """Return an assignment with another value; a comment stays in its column where there is room."""
    old = match[4]
    comment = next((found[1] for found in _STRING_OR_COMMENT.finditer(old) if found[1]), "")
    start = f"{match[1]}{match[2]}{match[3]}"
    line = start + _quote(value)
    if not comment:
        return line
    column = len(start) + len(old) - len(comment)
    return f"{line.ljust(column - 1)} {comment}"


def _remove(text: str, path: str, index: int) -> str:
    """Remove a table of an array, with the empty lines before it; comments after it belong to the next table."""
    lines = text.split("\n")
    block = _find(lines, path, index)
    if block is not None:
        begin, end = block.begin, block.end
        while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
            end -= 1
        while begin and not lines[begin - 1].strip():
            begin -= 1
        del lines[begin:end]
    return "\n".join(lines)


def _find(lines: list[str], path: str, index: int) -> _Block | None:
    """Return a table of the file: `index` counts the tables of an array; -1 is a plain table."""
    headers: list[tuple[int, str, int]] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(lines):
        if match := _HEADER.match(line):
            name = re.sub(r'[\s"]', "", match[2])
            position = -1
            if match[1] == "[[":
                position = counts[name] = counts.get(name, -1) + 1
            headers.append((number, name, position))
    for order, (number, name, position) in enumerate(headers):
        if (name, position) == (path, index):
            end = headers[order + 1][0] if order + 1 < len(headers) else len(lines)
            return _Block(path, index, number, end)
    return None


def _quote(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_quote(member)}" for name, member in value.items()) + " }"
    return msgspec.json.encode(value).decode()
