"""Finds modules: which belong to the project, where their source lies, and what an installed package consists of."""

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
_PASSED_OVER = {"__pycache__", "node_modules", "build", "dist"}


class Found(NamedTuple):
    """A module of the project: its source file (none for a folder without `__init__.py`), and where submodules lie."""

    name: str
    file: str
    folders: tuple[str, ...]

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.folders else self.name.rpartition(".")[0]

    @property
    def label(self) -> str:
        """Its name for people, and in digests: the same wherever the project lies."""
        stem = Path(self.file).stem if self.file else ""
        return self.name if stem in ("", "__init__", self.name.rpartition(".")[2]) else stem

    @property
    def root(self) -> str:
        """The folder from which it is imported; none for a module without a file."""
        levels = self.name.count(".") + (1 if Path(self.file).stem == "__init__" else 0)
        return str(Path(self.file).parents[levels]) if self.file and len(Path(self.file).parents) > levels else ""


def top_of(module: str | None) -> str:
    """The first part of a module's name."""
    return (module or "").partition(".")[0]


def is_own(module: str | None) -> bool:
    """Whether a module belongs to the project: not to the standard library, an installed package or Tidemill.

    A module without any file, such as that of a notebook, belongs to the project, too.
    """
    top = top_of(module)
    if not module or top == _PLATFORM or top in sys.builtin_module_names:
        return False
    if (found := find(module)) is not None:
        return True
    loaded = sys.modules.get(module, sys.modules.get(top))
    if loaded is None:
        return top not in sys.stdlib_module_names
    spec = getattr(loaded, "__spec__", None)
    has_place = getattr(loaded, "__file__", None) or list(getattr(loaded, "__path__", ()))
    is_internal = spec is not None and spec.origin in ("built-in", "frozen")
    return found is None and not has_place and not is_internal and (module == "__main__" or top not in _standard())


def find(module: str) -> Found | None:
    """A module of the project, loaded or not; None for all others. Nothing is imported."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        file = getattr(loaded, "__file__", None) or ""
        folders = tuple(getattr(loaded, "__path__", ()))
    else:
        spec = _spec(module)
        if spec is None:
            return None
        file = spec.origin if spec.has_location and spec.origin else ""
        folders = tuple(spec.submodule_search_locations or ())
    place = file or next(iter(folders), "")
    if not place or top_of(module) == _PLATFORM or not _is_own_place(place):
        return None
    return Found(module, file, folders)


def tops() -> set[str]:
    """The names of modules and packages that can be imported from folders of the project."""
    names: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        if _is_own_place(f"{Path(folder).absolute()}{os.sep}"):
            with suppress(OSError):
                names.update(name.removesuffix(".py") for name in os.listdir(folder or "."))  # noqa: PTH208 - fast
    return names - {_PLATFORM}


def sources_below(folder: str) -> Iterator[Path]:
    """All Python files of a folder, sorted; no environment and nothing hidden."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _PASSED_OVER and name[0] != "." and not (Path(place, name) / "pyvenv.cfg").exists()
        )
        yield from (Path(place, name) for name in sorted(files) if name.endswith(".py"))


@functools.cache
def installed(package: str) -> str:
    """The digest of an installed package: versions and file hashes of its distributions and of what they require.

    Of one without a record of its files, such as Tidemill in a working tree, all source counts. The standard library
    is empty: the version of Python counts by itself.
    """
    if package in _standard():
        return ""
    content = hashlib.sha256()
    records = _distributions(package)
    for name in sorted(records):
        content.update(f"{name}\n{records[name]}\n".encode())
    if package == _PLATFORM or not records:
        for file in _unrecorded(package):
            content.update(file.read_bytes())
    return content.hexdigest()


@functools.cache
def _standard() -> frozenset[str]:
    return frozenset(sys.stdlib_module_names)


@functools.cache
def _is_own_place(place: str) -> bool:
    return not place.startswith(_STANDARD) and not any(part in place for part in _INSTALLED)


def _spec(module: str) -> ModuleSpec | None:
    """The spec of a module that is not loaded; its parents are not imported either."""
    parent, _, _ = module.rpartition(".")
    path: tuple[str, ...] | None = None
    if parent:
        found = find(parent)
        if found is None or not found.folders:
            return None
        path = found.folders
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(module, path)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is not None:
            return spec
    return None


def _distributions(package: str) -> dict[str, str]:
    """By name the versions and file hashes of a package's distributions and of all that they require."""
    records: dict[str, str] = {}
    waiting = [package] if _normal(package) in _described() else _owners(package)
    while waiting:
        name = _normal(waiting.pop())
        folder = _described().get(name)
        if folder is None or name in records:
            continue
        hashes = [line for line in _text(folder / "RECORD").splitlines() if _HASHED.match(line)]
        records[name] = "\n".join([folder.name, *sorted(hashes)])
        waiting += _REQUIRED.findall(_text(folder / "METADATA").partition("\n\n")[0])
    return records


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def _described() -> dict[str, Path]:
    """By normalized name the folders that describe installed distributions; the first on the path counts."""
    found: dict[str, Path] = {}
    for place in sys.path:
        for folder in Path(place).glob("*.dist-info") if place else ():
            found.setdefault(_normal(folder.name.partition("-")[0]), folder)
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _owners(package: str) -> list[str]:
    """The distributions that bring a package whose name is another than theirs."""
    begins = re.compile(rf"^{re.escape(package)}(/|\.py|\.[^/,]*\.so|\.pyd)", re.MULTILINE)
    return [name for name, folder in _described().items() if begins.search(_text(folder / "RECORD"))]


def _unrecorded(package: str) -> Iterator[Path]:
    module = sys.modules.get(package)
    spec = getattr(module, "__spec__", None) or _spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if _is_own_place(folder):
            yield from sources_below(folder)
