"""The digest of a step's code: the source that it can reach, and the objects that it reaches now."""

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tidemill.flow.code.modules import find, installed, is_own, top_of
from tidemill.flow.code.objects import Walk
from tidemill.flow.code.reach import Reached


def fingerprint(function: Callable[..., Any]) -> str:
    """The digest of what a function does, as far as code says it; it is the same in every process.

    It is made of two sides, and changes with either. One is source: of every module of the project that is imported
    on the way, at once or later, all that may have an effect, without comments, docstrings and layout. The other is
    what the function reaches in this process: functions, classes, and the values of globals. Installed packages count
    by their versions and files.
    """
    walk = Walk()
    parts = list(walk.parts(function))
    reached = Reached(walk.roots)
    sources = [f"{module} {digest}".encode() for module, digest in reached.modules.items()]
    python = f"python {sys.version_info.major}.{sys.version_info.minor}".encode()
    return _digest([python, *sources, *(one.encode() for one in reached.others), b"objects", *parts])


def fingerprint_by_name(name: str) -> str:
    """The same of what `module:Class` names: of the project's own its code, else its package.

    What cannot be imported is its name alone: whoever uses it reports why.
    """
    module, _, attribute = name.partition(":")
    if find(module) is None and not (module in sys.modules and is_own(module)):
        return f"{name} {installed(top_of(module))}"
    try:
        return fingerprint(getattr(importlib.import_module(module), attribute))
    except Exception:  # noqa: BLE001 - the code of a project may raise anything
        return name


def _digest(parts: Iterable[bytes]) -> str:
    content = hashlib.sha256()
    for part in parts:
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()
