"""Imports the code in a package from its files, not from the project or the installed packages."""

import builtins
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from threading import RLock
from types import ModuleType
from typing import Any

_FOLDER = "code/"
_LOCK = RLock()


class PackagedModules(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """The modules under `code/` of a package, as they were when the package was created.

    They import each other, and code inside `active()` imports them; all other code imports its usual modules.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._sources = {}
        for path, content in files.items():
            if path.startswith(_FOLDER) and path.endswith(".py"):
                name = path.removeprefix(_FOLDER).removesuffix(".py").replace("/", ".")
                self._sources[name.removesuffix(".__init__")] = content, path
        self._tops = {name.partition(".")[0] for name in self._sources}
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make imports inside this context find the modules of the package first."""
        with _LOCK:
            if self in sys.meta_path:  # one of its modules imports another
                yield
                return
            hidden = self._remove_modules()
            sys.modules.update(self._modules)
            sys.meta_path.insert(0, self)
            try:
                yield
            finally:
                sys.meta_path.remove(self)
                self._modules = self._remove_modules()
                sys.modules.update(hidden)

    def _remove_modules(self) -> dict[str, ModuleType]:
        names = [name for name in list(sys.modules) if name.partition(".")[0] in self._tops]
        return {name: sys.modules.pop(name) for name in names}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module of the package; the import system calls this."""
        del path, target
        if name in self._sources:
            return importlib.util.spec_from_loader(name, self)
        if any(module.startswith(f"{name}.") for module in self._sources):  # a folder without __init__.py
            return ModuleSpec(name, None, is_package=True)
        return None

    def is_package(self, fullname: str) -> bool:
        return self._sources[fullname][1].endswith("/__init__.py")

    def get_filename(self, fullname: str) -> str:
        return self._sources[fullname][1]

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._sources[fullname][0])

    def exec_module(self, module: ModuleType) -> None:
        """Run the code of a module; its later imports also find the modules of the package first."""
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._import}
        super().exec_module(module)

    def _import(self, name: str, globals_: Any = None, locals_: Any = None, names: Any = (), level: int = 0) -> Any:
        if not level and name.partition(".")[0] not in self._tops:
            return builtins.__import__(name, globals_, locals_, names, level)
        loaded = None if level or (not names and "." in name) else self._modules.get(name)
        if loaded is not None and all(hasattr(loaded, attribute) for attribute in names or ()):
            return loaded
        with self.active():
            return builtins.__import__(name, globals_, locals_, names, level)
