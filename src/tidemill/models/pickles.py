"""Inspects a pickle without loading it: the names that it would import, and the versions that created it.

It only follows the names of the opcodes: it imports, calls and creates nothing. The result helps a person to decide
whether to trust the file; it does not prove that the file is harmless.
"""

import io
import math
import pickletools
from typing import Any, NamedTuple

import numpy as np

from tidemill.models.file_info import ModelFileInfo
from tidemill.models.formats import decompress

_UNKNOWN = "?"
_MARK = object()
_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_SETS = ("SETITEM", "SETITEMS")
_CALLS = ("REDUCE", "NEWOBJ", "NEWOBJ_EX")
_VERSION_KEYS = {"_sklearn_version": "scikit-learn"}


class _Name(NamedTuple):
    path: str


class _Call(NamedTuple):
    """An object that loading would create with a call of `function`."""

    function: Any
    arguments: Any


def read_info(content: bytes) -> ModelFileInfo:
    """Return the imports of a pickle or joblib file; `whole` is False if it could not be read to its end."""
    reader = _OpcodeReader()
    try:
        reader.follow(io.BytesIO(decompress(content)))
        whole = True
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        whole = False
    return ModelFileInfo(imports=tuple(sorted(reader.imports)), versions=reader.versions, whole=whole)


class _OpcodeReader:
    """Follows the opcodes of pickle's stack machine, and keeps only constants, names and calls."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.versions: dict[str, str] = {}

    def follow(self, stream: io.BytesIO) -> None:
        """Read one pickle from the stream; skip joblib's raw arrays between its opcodes."""
        stack: list[Any] = []
        memo: dict[Any, Any] = {}
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "MARK":
                stack.append(_MARK)
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif opcode.name in _PUTS:
                memo[argument] = stack[-1]
            elif opcode.name in _GETS:
                stack.append(memo[argument])
            else:
                operands = _pop_operands(stack, opcode)
                result = self._apply(opcode.name, argument, operands)
                stack.extend([result] * len(opcode.stack_after))
                if opcode.name == "BUILD" and isinstance(result, _Call) and result.function == _Name(_ARRAY):
                    self._skip_array(stream, operands[-1])

    def _apply(self, opcode: str, argument: Any, operands: list[Any]) -> Any:
        if opcode in ("GLOBAL", "INST"):
            return self._import(*argument.split(" ", 1))
        if opcode == "STACK_GLOBAL":
            return self._import(*operands)
        if opcode.startswith("EXT"):
            return self._import("copyreg", f"extension_{argument}")
        if opcode in _CALLS:
            return _Call(operands[0], operands[1] if len(operands) > 1 else ())
        if opcode in ("EMPTY_DICT", "DICT"):
            return self._fill({}, operands)
        if opcode in _SETS:
            return self._fill(operands[0], operands[1:])
        if opcode.startswith("TUPLE") or opcode == "EMPTY_TUPLE":
            return tuple(operands)
        if opcode in ("BUILD", "DUP"):
            return operands[0]
        return argument

    def _import(self, module: Any, name: Any) -> _Name:
        is_constant = isinstance(module, str) and isinstance(name, str)
        path = f"{module}.{name}" if is_constant else _UNKNOWN
        self.imports.add(path)
        return _Name(path)

    def _fill(self, target: Any, pairs: list[Any]) -> Any:
        for key, value in zip(pairs[::2], pairs[1::2], strict=False):
            if not isinstance(key, str):
                continue
            if isinstance(target, dict):
                target[key] = value
            if key in _VERSION_KEYS and isinstance(value, str):
                self.versions[_VERSION_KEYS[key]] = value
        return target

    def _skip_array(self, stream: io.BytesIO, state: dict[str, Any]) -> None:
        """Skip the bytes of an array: its padding, then its items; an array of objects is a pickle itself."""
        code = state["dtype"].arguments[0]
        if code.startswith("O"):
            self.follow(stream)
            return
        if "numpy_array_alignment_bytes" in state:
            stream.seek(stream.read(1)[0], io.SEEK_CUR)
        stream.seek(math.prod(state["shape"]) * np.dtype(code).itemsize, io.SEEK_CUR)


def _pop_operands(stack: list[Any], opcode: pickletools.OpcodeInfo) -> list[Any]:
    """Pop the operands of an opcode from the stack; remove the mark if the opcode uses all values above it."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        operands = stack[len(stack) - len(before) :]
        del stack[len(stack) - len(before) :]
        return operands
    mark = len(stack) - 1 - stack[::-1].index(_MARK)
    operands = stack[mark + 1 :]
    del stack[mark:]
    count = before.index(pickletools.markobject)
    below_mark = stack[len(stack) - count :] if count else []
    del stack[len(stack) - count :]
    return below_mark + operands
