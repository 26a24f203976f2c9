"""Portable packages: folders with an MLflow description, a lock, and a loader that does not need Tidemill."""

import ast
import json
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
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
from tidemill.project.packaging import list_imports

LOCK = "requirements.txt"
_ROWS = "code/tidemill_rows.py"
_OWN_CODE = (_ROWS, "code/tidemill_learner.py")
PYTHON = "python_env.yaml"
# Read at import, so that a change of the loader changes the code digest of the steps that pack models.
_LOADER = Path(portable.__file__).read_text(encoding="utf-8")
_LOCKED_BY_FLAVOR = {
    "lightgbm": ("lightgbm", "numpy"),
    "sklearn": ("scikit-learn", "joblib", "numpy"),
    "river": ("river", "joblib", "numpy"),
}
_WARM_MODULES = {"lightgbm": ("lightgbm",), "sklearn": ("joblib", "sklearn"), "river": ("joblib", "river.compose")}
_LOCKED_LIBRARIES = {"sklearn", "numpy", "joblib", "scipy"}
_TYPES = {"boolean": "boolean", "integer": "long", "number": "double", "time": "datetime", "date": "datetime"}


def make_portable(model: Model, packages: tuple[str, ...] = ()) -> Model:
    """Return the package with its code, its lock and its MLflow description; `packages` are added to the lock.

    Raises
    ------
    InputError
        if the flavor has no portable loader, or a package is not installed.
    """
    flavor = model.manifest.flavor
    if flavor not in _LOCKED_BY_FLAVOR:
        raise InputError(
            f"a package of flavor {flavor!r} has no loader that works without Tidemill",
            "export a model that a Tidemill run trained, or the registered file",
        )
    if absent := [name for name in packages if not lock_packages(name)]:
        raise InputError(
            f"the package {absent[0]!r} cannot be locked, because it is not installed",
            "install it, or correct `packages` under [training]",
        )
    libraries, sources = _find_code(model)
    lock = lock_packages(*_LOCKED_BY_FLAVOR[flavor], *libraries, *packages)
    description = _format_mlmodel(model.manifest)
    files = {
        "MLmodel": description.encode(),
        LOCK: "".join(f"{line}\n" for line in lock).encode(),
        PYTHON: _format_python_env().encode(),
        "code/tidemill_model.py": _LOADER.encode(),
    }
    return replace(model, files=model.files | files | sources)


def is_portable(model: Model) -> bool:
    """Return whether a package contains an MLflow description and the portable loader."""
    return "MLmodel" in model.files


def to_files(model: Model) -> dict[str, bytes]:
    """Return the files of a package as an MLflow model folder, by relative path.

    Raises
    ------
    InputError
        if the flavor has no portable loader.
    """
    manifest = {"manifest.json": msgspec.json.format(msgspec.json.encode(model.manifest))}
    if model.manifest.flavor == "mlflow":
        inner = {name.removeprefix(ROOT): content for name, content in model.files.items() if name.startswith(ROOT)}
        return inner | {name: content for name, content in model.files.items() if not name.startswith(ROOT)} | manifest
    portable_model = model if is_portable(model) else make_portable(model)
    return portable_model.files | manifest


def list_warm_modules(model: Model) -> tuple[str, ...]:
    """Return the modules that the loader of a package imports, to import them before the package is timed."""
    return _WARM_MODULES.get(model.manifest.flavor, ())


def _find_code(model: Model) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """Return the code of the classes in a pickle: the installed libraries, and the files of the project modules."""
    content = model.files.get("model.joblib")
    modules = {name.partition(".")[0] for name in pickles.read_info(content).imports} if content else set()
    for path, source in model.files.items():  # the code of transformations
        is_code = path.startswith("code/") and path.endswith(".py") and path not in _OWN_CODE
        modules |= _list_imports(source) if is_code else set()
    if _ROWS in model.files:  # a frame of Polars, from which one of pandas can be made
        modules |= {"polars", *(("pandas",) if b'"pandas"' in model.files["estimator.json"] else ())}
    modules -= sys.stdlib_module_names | _LOCKED_LIBRARIES | {"tidemill"}
    modules -= {path.split("/")[1].removesuffix(".py") for path in model.files if path.startswith("code/")}
    if not modules:
        return (), {}
    libraries = {name for module in modules for name in _find_distributions(module)}
    project_files: dict[str, bytes] = {}
    pending = sorted(module for module in modules if not _find_distributions(module))
    while pending:
        files = read_sources(pending.pop())
        project_files |= files
        imports = {top for content in files.values() for top in _list_imports(content)}
        imports -= sys.stdlib_module_names | {"tidemill"}
        imports = {module for module in imports if not _find_distributions(module)}
        pending += sorted(imports - {path.split("/")[1].removesuffix(".py") for path in project_files})
    return tuple(sorted(libraries)), project_files


def _list_imports(source: bytes) -> set[str]:
    """Return the top-level modules that a source file imports, at any depth."""
    try:
        return list_imports(ast.parse(source))
    except (SyntaxError, ValueError):  # a package may contain files that are never imported
        return set()


def read_sources(module: str) -> dict[str, bytes]:
    """Return the source files of a top-level module, by their path under `code/`."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return {}
    # A package without __init__.py can have several folders; Python imports a file from the first one that has it.
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = [(file, folder.parent) for folder in reversed(folders) for file in sorted(folder.rglob("*.py"))]
    if not folders and spec.origin and spec.origin.endswith(".py"):
        found = [(Path(spec.origin), Path(spec.origin).parent)]
    return {f"code/{file.relative_to(base).as_posix()}": file.read_bytes() for file, base in found}


@cache
def _find_distributions(module: str) -> tuple[str, ...]:
    """Return the installed distributions that contain a module, except Tidemill itself."""
    if module == "tidemill" or not _is_installed(module):
        return ()
    try:
        distribution(module)
    except (PackageNotFoundError, ValueError):
        return tuple(_map_distributions().get(module, ()))
    return (module,)


def _is_installed(module: str) -> bool:
    """Return whether a module is in a folder of installed packages; one of the project can have the name of another."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return True
    if spec is None:
        return True
    path = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    return "site-packages" in path or "dist-packages" in path or not path.endswith((".py", module))


@cache
def _map_distributions() -> Mapping[str, list[str]]:
    """Return the installed distributions by their modules; cached, since it is slow."""
    return packages_distributions()


def _format_mlmodel(manifest: Manifest) -> str:
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
        f"  inputs: {_quote([_describe_input(column) for column in signature.inputs])}",
        f"  outputs: {_quote(outputs)}",
        "  params: null",
    ]
    return "\n".join(lines) + "\n"


def _describe_input(column: Input) -> dict[str, Any]:
    return {"type": _TYPES.get(column.type, "string"), "name": column.name, "required": not column.nullable}


def _quote(value: Any) -> str:
    return "'" + json.dumps(value).replace("'", "''") + "'"


def _format_python_env() -> str:
    return f"python: {platform.python_version()}\nbuild_dependencies:\n- pip\ndependencies:\n- -r {LOCK}\n"
