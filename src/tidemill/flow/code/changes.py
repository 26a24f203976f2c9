"""Names the modules in which a step's code is another than in an earlier run."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidemill.flow.code.objects import Walk
from tidemill.flow.code.reach import Reached
from tidemill.flow.code.syntax import Statement, statements


def changed_modules(function: Callable[..., Any], folder: Path, packed: bytes) -> list[str]:
    """The modules of a project in which what counts for a function differs from a packed copy of the project's files.

    Empty where the difference is elsewhere: in a package, or in what the modules have in memory.
    """
    walk = Walk()
    for _ in walk.parts(function):
        pass
    changed = []
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for found, counted in Reached(walk.roots).counted:
            try:
                name = Path(found.file).resolve().relative_to(folder.resolve()).as_posix()
                earlier = statements(archive.read(name)) if found.file else ()
            except (ValueError, KeyError, SyntaxError):  # elsewhere, or not there before, or not readable then
                earlier = ()
            if found.file.endswith(".py") and not _is_same(counted, earlier):
                changed.append(found.label)
    return changed


def _is_same(counted: list[Statement], earlier: tuple[Statement, ...]) -> bool:
    """Whether the statements that count now stood there before in this order, and none that may do more is gone."""
    now = [one.content.text for one in counted]
    before = [one.content.text for one in earlier]
    kept = set(now)
    had_effect = {one.content.text for one in earlier if not one.defines}
    return [text for text in before if text in kept] == now and had_effect <= kept
