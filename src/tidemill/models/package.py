"""A package as a folder that other tools know: MLflow's description, a lock, and a loader that needs no Tidemill."""

import ast
import json
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from tidemill.core.model import Input, Manifest, Model
from tidemill.errors import InputError
from tidemill.models import pickles, portable
from tidemill.models.environment import lock_packages
from tidemill.models.flavors.mlflow import ROOT

LOCK = "requirements.txt"
PYTHON = "python_env.yaml"
# Read at once, so that the code of the steps that pack models is another when the loader is.
_LOADER = Path(portable.__file__).read_text(encoding="utf-8")
_ROOTS = {"lightgbm": ("lightgbm", "numpy"), "sklearn": ("scikit-learn", "joblib", "numpy")}
_WARM = {"lightgbm": ("lightgbm",), "sklearn": ("joblib", "sklearn")}
_USUAL = {"sklearn", "numpy", "joblib", "scipy"}
_TYPES = {"boolean": "boolean", "integer": "long", "number": "double", "time": "datetime", "date": "datetime"}


def make_portable(model: Model, packages: tuple[str, ...] = ()) -> Model:
    """The package with its code, its lock, and its description for MLflow; `packages` are locked beside its own.

    Raises
    ------
    InputError
        for a flavor that has no loader of its own, or a package that is not installed.
    """
    flavor = model.manifest.flavor
    if flavor not in _ROOTS:
        raise InputError(
            f"a package of flavor {flavor!r} has no loader that works without Tidemill",
            "export a model that a run here trained, or the file that was registered",
        )
    if absent := [name for name in packages if not lock_packages(name)]:
        raise InputError(
            f"the package {absent[0]!r} cannot be locked: it is not installed here",
            "install it, or mend `packages` under [training]",
        )
    makers, sources = _code_of(model)
    lock = lock_packages(*_ROOTS[flavor], *makers, *packages)
    description = _described(model.manifest)
    files = {
        "MLmodel": description.encode(),
        LOCK: "".join(f"{line}\n" for line in lock).encode(),
        PYTHON: _python().encode(),
        "code/tidemill_model.py": _LOADER.encode(),
    }
    return replace(model, files=model.files | files | sources)


def is_portable(model: Model) -> bool:
    """Whether a package is a model of MLflow as it is."""
    return "MLmodel" in model.files


def to_files(model: Model) -> dict[str, bytes]:
    """The files of a package as a folder: a model of MLflow, whoever made it.

    Raises
    ------
    InputError
        for a flavor that has no loader of its own.
    """
    manifest = {"manifest.json": msgspec.json.format(msgspec.json.encode(model.manifest))}
    if model.manifest.flavor == "mlflow":
        inner = {name.removeprefix(ROOT): content for name, content in model.files.items() if name.startswith(ROOT)}
        return inner | {name: content for name, content in model.files.items() if not name.startswith(ROOT)} | manifest
    whole = model if is_portable(model) else make_portable(model)
    return whole.files | manifest


def list_warm_modules(model: Model) -> tuple[str, ...]:
    """The modules of published packages that a package imports when it is loaded."""
    return _WARM.get(model.manifest.flavor, ())


def _code_of(model: Model) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """What a pickle's own classes come from: the published packages, and the source files of the project's modules."""
    content = model.files.get("model.joblib")
    tops = {name.partition(".")[0] for name in pickles.read_info(content).imports} if content else set()
    tops -= sys.stdlib_module_names | _USUAL | {"tidemill"}
    if not tops:
        return (), {}
    known = _distributions()
    makers = {name for top in tops for name in known.get(top, ()) if name != "tidemill"}
    own: dict[str, bytes] = {}
    waiting = sorted(tops - known.keys())
    while waiting:
        found = _sources(waiting.pop())
        own |= found
        further = {top for content in found.values() for top in _imported(content)}
        further -= known.keys() | sys.stdlib_module_names | {"tidemill"}
        waiting += sorted(further - {one.split("/")[1].removesuffix(".py") for one in own})
    return tuple(sorted(makers)), own


def _imported(source: bytes) -> set[str]:
    """The top-level modules that a source file imports, wherever in it."""
    found: set[str] = set()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # beside what is imported may lie what cannot be
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _sources(module: str) -> dict[str, bytes]:
    """The source files of a top-level module, as they lie under `code/`."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if places:  # a package, also a folder without a file that makes it one
        files, base = sorted(Path(places[0]).rglob("*.py")), Path(places[0]).parent
    elif spec and spec.origin and spec.origin.endswith(".py"):
        files, base = [Path(spec.origin)], Path(spec.origin).parent
    else:
        return {}
    return {f"code/{one.relative_to(base).as_posix()}": one.read_bytes() for one in files}


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The distributions by the modules that they bring; it takes long to look."""
    return packages_distributions()


def _described(manifest: Manifest) -> str:
    signature = manifest.signature
    outputs: list[dict[str, Any]] = [{"type": "string" if signature.classes else "double", "name": "prediction"}]
    outputs += [{"type": "double", "name": f"probability_{name}"} for name in signature.classes]
    lines = [
        "flavors:",
        "  python_function:",
        "    code: code",
        "    env:",
        f"      virtualenv: {PYTHON}",
        "    loader_module: tidemill_model",
        f"    python_version: {platform.python_version()}",
        "signature:",
        f"  inputs: {_quoted([_input(one) for one in signature.inputs])}",
        f"  outputs: {_quoted(outputs)}",
        "  params: null",
    ]
    return "\n".join(lines) + "\n"


def _input(one: Input) -> dict[str, Any]:
    return {"type": _TYPES.get(one.type, "string"), "name": one.name, "required": not one.nullable}


def _quoted(value: Any) -> str:
    return "'" + json.dumps(value).replace("'", "''") + "'"


def _python() -> str:
    return f"python: {platform.python_version()}\nbuild_dependencies:\n- pip\ndependencies:\n- -r {LOCK}\n"
