"""The code that a package carries: its modules are imported from its own files, whatever lies elsewhere by now."""

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
_ONE_AT_A_TIME = RLock()


class PackagedModules(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """The modules that lie under `code/` of a package, as they were when it was made.

    They are seen by each other, and by what is done `within`; everybody else goes on with those of their own.
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
    def within(self) -> Iterator[None]:
        """Here an import of one of its modules gives that one."""
        with _ONE_AT_A_TIME:
            if self in sys.meta_path:  # one of its modules imports another
                yield
                return
            hidden = self._taken_out()
            sys.modules.update(self._modules)
            sys.meta_path.insert(0, self)
            try:
                yield
            finally:
                sys.meta_path.remove(self)
                self._modules = self._taken_out()
                sys.modules.update(hidden)

    def _taken_out(self) -> dict[str, ModuleType]:
        names = [name for name in list(sys.modules) if name.partition(".")[0] in self._tops]
        return {name: sys.modules.pop(name) for name in names}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What the import system asks: the spec of a module that is carried."""
        del path, target
        if name in self._sources:
            return importlib.util.spec_from_loader(name, self)
        if any(one.startswith(f"{name}.") for one in self._sources):  # a folder without a file that makes it a package
            return ModuleSpec(name, None, is_package=True)
        return None

    def is_package(self, fullname: str) -> bool:
        return self._sources[fullname][1].endswith("/__init__.py")

    def get_filename(self, fullname: str) -> str:
        return self._sources[fullname][1]

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._sources[fullname][0])

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code; what it imports later, when it is called, it imports from here, too."""
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._import}
        super().exec_module(module)

    def _import(self, name: str, of: Any = None, local: Any = None, wanted: Any = (), level: int = 0) -> Any:
        if not level and name.partition(".")[0] not in self._tops:
            return builtins.__import__(name, of, local, wanted, level)
        known = None if level or (not wanted and "." in name) else self._modules.get(name)
        if known is not None and all(hasattr(known, one) for one in wanted or ()):
            return known
        with self.within():
            return builtins.__import__(name, of, local, wanted, level)
