"""Imports LightGBM without scikit-learn and pandas, whose import takes ten times as long as its own.

LightGBM imports both, if they are installed, only for its classes with the interface of scikit-learn.
"""

import importlib
import importlib.util
import sys
import threading
from typing import Any

_COPY = "tidemill_lightgbm"
_HIDDEN = frozenset({"sklearn", "pandas", "matplotlib", "graphviz", "dask", "distributed"})
_lock = threading.Lock()


class _Hiding:
    """A module finder that finds none of the hidden packages for one thread."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:  # noqa: ARG002 - a finder's interface
        if name in _HIDDEN and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)


def import_lightgbm() -> Any:
    """Return the module `lightgbm`: a copy without the classes of scikit-learn, unless one of both is imported already.

    The copy has a name of its own, so that code that imports `lightgbm` later gets all of it.

    Raises
    ------
    ImportError
        if LightGBM is not installed.
    """
    if "lightgbm" in sys.modules or "sklearn" in sys.modules:
        return importlib.import_module("lightgbm")
    with _lock:
        return sys.modules.get(_COPY) or _import_copy()


def _import_copy() -> Any:
    found = importlib.util.find_spec("lightgbm")
    if found is None or found.origin is None:
        return importlib.import_module("lightgbm")  # raises its own error
    folders = list(found.submodule_search_locations or ())
    spec = importlib.util.spec_from_file_location(_COPY, found.origin, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    hiding = _Hiding()
    sys.modules[_COPY] = module
    sys.meta_path.insert(0, hiding)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for name in [name for name in sys.modules if name.partition(".")[0] == _COPY]:
            del sys.modules[name]
        raise
    finally:
        sys.meta_path.remove(hiding)
    return module
