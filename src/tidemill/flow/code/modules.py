"""Finds the modules of the project and their source, and computes the digests of installed packages."""

import functools
import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

_PLATFORM = "tidemill"
_STANDARD = tuple({sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_HASHED = re.compile(r"(?!\.\.|[^/,]*\.dist-info/).*,sha256=")
_REQUIRED = re.compile(r"^Requires-Dist: *([A-Za-z0-9._-]+)(?!.*;.*\bextra\b)", re.MULTILINE)
_SKIPPED_FOLDERS = {"__pycache__", "node_modules", "build", "dist"}


class ProjectModule(NamedTuple):
    """A module of the project: its file (empty without an `__init__.py`) and the folders of its submodules."""

    name: str
    file: str
    folders: tuple[str, ...]

    @property
    def package(self) -> str:
        """The package from which relative imports of the module start."""
        return self.name if self.folders else self.name.rpartition(".")[0]

    @property
    def label(self) -> str:
        """The name of the module in messages and digests; it does not depend on the folder of the project."""
        stem = Path(self.file).stem if self.file else ""
        return self.name if stem in ("", "__init__", self.name.rpartition(".")[2]) else stem

    @property
    def root(self) -> str:
        """The folder from which the module is imported, empty for a module without a file."""
        levels = self.name.count(".") + (1 if Path(self.file).stem == "__init__" else 0)
        return str(Path(self.file).parents[levels]) if self.file and len(Path(self.file).parents) > levels else ""


def top_level_name(module: str | None) -> str:
    """Return the first part of the name of a module."""
    return (module or "").partition(".")[0]


def is_project_module(module: str | None) -> bool:
    """Return whether a module belongs to the project, not to the standard library, an installed package or Tidemill.

    A module without a file, such as the module of a notebook, belongs to the project too.
    """
    top = top_level_name(module)
    if not module or top == _PLATFORM or top in sys.builtin_module_names:
        return False
    if find_project_module(module) is not None:
        return True
    loaded = sys.modules.get(module, sys.modules.get(top))
    if loaded is None:
        return top not in sys.stdlib_module_names
    spec = getattr(loaded, "__spec__", None)
    has_path = getattr(loaded, "__file__", None) or list(getattr(loaded, "__path__", ()))
    is_internal = spec is not None and spec.origin in ("built-in", "frozen")
    return not has_path and not is_internal and (module == "__main__" or top not in _list_standard_modules())


def find_project_module(module: str) -> ProjectModule | None:
    """Return a module of the project, loaded or not, without importing it; None for other modules."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        file = getattr(loaded, "__file__", None) or ""
        folders = tuple(getattr(loaded, "__path__", ()))
    else:
        spec = _find_spec(module)
        if spec is None:
            return None
        file = spec.origin if spec.has_location and spec.origin else ""
        folders = tuple(spec.submodule_search_locations or ())
    path = file or next(iter(folders), "")
    if not path or top_level_name(module) == _PLATFORM or not _is_project_path(path):
        return None
    return ProjectModule(module, file, folders)


def list_top_level_names() -> set[str]:
    """Return the names of the modules and packages that can be imported from folders of the project."""
    names: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        if _is_project_path(f"{Path(folder).absolute()}{os.sep}"):
            with suppress(OSError):
                names.update(name.removesuffix(".py") for name in os.listdir(folder or "."))  # noqa: PTH208 - fast
    return names - {_PLATFORM}


def list_sources(folder: str) -> Iterator[Path]:
    """Yield the Python files below a folder, sorted, without environments and hidden folders."""
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED_FOLDERS and name[0] != "." and not (Path(path, name) / "pyvenv.cfg").exists()
        )
        yield from (Path(path, name) for name in sorted(files) if name.endswith(".py"))


@functools.cache
def digest_package(package: str) -> str:
    """Return the digest of an installed package: versions and file hashes of its distributions and their requirements.

    If a package has no record of its files, as Tidemill in a working tree, the digest is computed from all its source
    files. The digest of the standard library is empty: fingerprints contain the version of Python.
    """
    if package in _list_standard_modules():
        return ""
    content = hashlib.sha256()
    records = _read_distributions(package)
    for name in sorted(records):
        content.update(f"{name}\n{records[name]}\n".encode())
    if package == _PLATFORM or not records:
        for file in _list_unrecorded_sources(package):
            content.update(file.read_bytes())
    return content.hexdigest()


@functools.cache
def _list_standard_modules() -> frozenset[str]:
    return frozenset(sys.stdlib_module_names)


@functools.cache
def _is_project_path(path: str) -> bool:
    return not path.startswith(_STANDARD) and not any(part in path for part in _INSTALLED)


def _find_spec(module: str) -> ModuleSpec | None:
    """Return the spec of a module that is not loaded, without importing its parents."""
    parent, _, _ = module.rpartition(".")
    path: tuple[str, ...] | None = None
    if parent:
        package = find_project_module(parent)
        if package is None or not package.folders:
            return None
        path = package.folders
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(module, path)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is not None:
            return spec
    return None


def _read_distributions(package: str) -> dict[str, str]:
    """Return the versions and file hashes of the distributions of a package and of their requirements, by name."""
    records: dict[str, str] = {}
    pending = [package] if _normalize(package) in _find_distribution_folders() else _find_distributions(package)
    while pending:
        name = _normalize(pending.pop())
        folder = _find_distribution_folders().get(name)
        if folder is None or name in records:
            continue
        hashes = [line for line in _read_text(folder / "RECORD").splitlines() if _HASHED.match(line)]
        records[name] = "\n".join([folder.name, *sorted(hashes)])
        pending += _REQUIRED.findall(_read_text(folder / "METADATA").partition("\n\n")[0])
    return records


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def _find_distribution_folders() -> dict[str, Path]:
    """Return the `.dist-info` folders by normalized name; the first one on the path wins."""
    folders: dict[str, Path] = {}
    for path in sys.path:
        for folder in Path(path).glob("*.dist-info") if path else ():
            folders.setdefault(_normalize(folder.name.partition("-")[0]), folder)
    return folders


def _read_text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _find_distributions(package: str) -> list[str]:
    """Return the distributions that contain a package, if they have other names than the package."""
    pattern = re.compile(rf"^{re.escape(package)}(/|\.py|\.[^/,]*\.so|\.pyd)", re.MULTILINE)
    return [
        name for name, folder in _find_distribution_folders().items() if pattern.search(_read_text(folder / "RECORD"))
    ]


def _list_unrecorded_sources(package: str) -> Iterator[Path]:
    module = sys.modules.get(package)
    spec = getattr(module, "__spec__", None) or _find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if _is_project_path(folder):
            yield from list_sources(folder)
