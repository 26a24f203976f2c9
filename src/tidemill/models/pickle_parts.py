"""The values that a reader of pickles follows: names, calls, types of arrays, and arrays of joblib."""

import re
from typing import Any, NamedTuple

import numpy as np

ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
DATA_TYPE = "numpy.dtype"
_RECONSTRUCTOR = "copyreg._reconstructor"
_KNOWN = ("numpy._core.multiarray.", "numpy.core.multiarray.", "numpy.random._pickle.", "numpy.ma.core.")
_CODE = re.compile(r"(?:[biufc](?:1|2|4|8|16|32)|b1|[SUV]\d{1,9}|[mM]8(?:\[\w+\])?|O8?|\?)")
_HAS_OBJECTS = 1


class Name(NamedTuple):
    """An imported name."""

    path: str


class Call(NamedTuple):
    """An object that loading would create with a call of `function`; `is_class` is whether that must be a class."""

    function: Any
    arguments: Any
    is_class: bool = False

    @property
    def function_name(self) -> str:
        return self.function.path if isinstance(self.function, Name) else "a call"

    @property
    def has_known_result(self) -> bool:
        """Return whether the object is of a class that the pickle names, and not one that a function finds otherwise.

        The name of a class begins with a capital letter.
        """
        if not isinstance(self.function, Name):
            return False
        path = self.function.path
        last = path.rpartition(".")[2]
        if path == _RECONSTRUCTOR:
            return isinstance(self.arguments, tuple) and bool(self.arguments) and isinstance(self.arguments[0], Name)
        if last == "newObj" and path.startswith("sklearn."):
            return True
        return self.is_class or last[:1].isupper() or last.startswith("__pyx_unpickle_") or path.startswith(_KNOWN)


class Array:
    """An array of joblib, whose bytes follow its description."""


class DataType:
    """A type of NumPy; `code` is empty if it is unknown. The same object can be used, and changed, several times."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.members: list[Any] = []

    @property
    def is_object(self) -> bool:
        """Return whether an array of this type is a pickle itself."""
        return self.code.startswith("O")

    def is_known(self) -> bool:
        """Return whether the size of the items is known, and that they are no objects, except all of them are."""
        return bool(self.code) and all(
            isinstance(member, DataType) and member.is_known() and not member.is_object for member in self.members
        )

    def set_state(self, state: Any) -> None:
        """Set the state of the type: (version, order, item type, names, fields, size, alignment, flags[, metadata])."""
        if not isinstance(state, tuple) or len(state) not in (8, 9) or state[0] not in (3, 4):
            self.code = ""
            return
        _, _, item, names, fields, size, _, flags = state[:8]
        has_size = type(size) is int and size in (-1, _find_size(self.code))
        has_flags = type(flags) is int and bool(flags & _HAS_OBJECTS) == self.is_object
        if not has_size or not has_flags or ((item or names or fields) and not self.code.startswith("V")):
            self.code = ""
            return
        self.members = []
        if item is not None:
            self.members.append(item[0] if isinstance(item, tuple) and len(item) == 2 else None)
        if fields is not None:
            self.members += _list_members(fields)


def _list_members(fields: Any) -> list[Any]:
    """Return the types of the fields of a record; None for what is no type."""
    if not isinstance(fields, dict):
        return [None]
    return [value[0] if isinstance(value, tuple) and len(value) in (2, 3) else None for value in fields.values()]


def _find_size(code: str) -> int:
    return int(np.dtype(code).itemsize) if code else -1


def is_array_type(value: Any) -> bool:
    """Return whether a value is the class of joblib's arrays."""
    return isinstance(value, Name) and value.path == ARRAY


def read_data_type(arguments: Any) -> DataType:
    """Return the type of NumPy that these constant arguments create."""
    code = arguments[0] if isinstance(arguments, tuple) and arguments else None
    is_plain = isinstance(code, str) and _CODE.fullmatch(code) and not any(arguments[1:2])
    return DataType(code if is_plain and isinstance(code, str) else "")
