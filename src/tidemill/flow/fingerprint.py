"""Computes the digest of the code of a step: the source that it can reach, and the objects that it reaches now."""

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tidemill.flow.code.modules import digest_package, find_project_module, is_project_module, top_level_name
from tidemill.flow.code.objects import ObjectWalk
from tidemill.flow.code.reach import ReachedSource


def fingerprint(function: Callable[..., Any]) -> str:
    """Return the digest of the code of a function; it is the same in every process.

    The digest covers source and objects, and changes with either. The source is all code that can have an effect, in
    every project module that the function imports directly or indirectly, without comments, docstrings and layout.
    The objects are the functions, classes and globals that the function reaches in this process. For installed
    packages, versions and files count.
    """
    walk = ObjectWalk()
    parts = list(walk.parts(function))
    reached = ReachedSource(walk.roots)
    sources = [f"{module} {digest}".encode() for module, digest in reached.modules.items()]
    python = f"python {sys.version_info.major}.{sys.version_info.minor}".encode()
    return _digest([python, *sources, *(line.encode() for line in reached.others), b"objects", *parts])


def fingerprint_by_name(name: str) -> str:
    """Return the digest of `module:Class`: of its code if it belongs to the project, else of its package.

    If it cannot be imported, return its name; the code that uses it reports the reason.
    """
    module, _, attribute = name.partition(":")
    if find_project_module(module) is None and not (module in sys.modules and is_project_module(module)):
        return f"{name} {digest_package(top_level_name(module))}"
    try:
        return fingerprint(getattr(importlib.import_module(module), attribute))
    except Exception:  # noqa: BLE001 - the code of a project may raise anything
        return name


def _digest(parts: Iterable[bytes]) -> str:
    content = hashlib.sha256()
    for part in parts:
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()
