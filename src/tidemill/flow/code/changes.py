"""Finds the modules in which the code of a step has changed since an earlier run."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidemill.flow.code.objects import ObjectWalk
from tidemill.flow.code.reach import ReachedSource
from tidemill.flow.code.syntax import Statement, parse_statements


def find_changed_modules(function: Callable[..., Any], folder: Path, packed: bytes) -> list[str]:
    """Return the modules whose code for a function differs from a packed copy of the project.

    The list is empty if the difference is in a package or in values in memory.
    """
    walk = ObjectWalk()
    for _ in walk.parts(function):
        pass
    changed = []
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for found, counted in ReachedSource(walk.roots).counted:
            try:
                name = Path(found.file).resolve().relative_to(folder.resolve()).as_posix()
                earlier = parse_statements(archive.read(name)) if found.file else ()
            except (ValueError, KeyError, SyntaxError):  # outside the project, missing in the copy, or not Python
                earlier = ()
            if found.file.endswith(".py") and not _is_same(counted, earlier):
                changed.append(found.label)
    return changed


def _is_same(counted: list[Statement], earlier: tuple[Statement, ...]) -> bool:
    """Return whether the counted statements are unchanged and in order, and no statement with an effect was removed."""
    now = [statement.content.text for statement in counted]
    before = [statement.content.text for statement in earlier]
    current = set(now)
    had_effect = {statement.content.text for statement in earlier if not statement.defines}
    return [text for text in before if text in current] == now and had_effect <= current
