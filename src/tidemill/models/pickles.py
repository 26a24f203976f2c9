"""Looks into a pickle without loading it: which names it would import, and which versions it says it was made with.

The opcodes are followed by name only: nothing is imported, called or built. What is found is evidence for the person
who decides whether to trust the file, never a proof that it is harmless.
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
_MADE_BY = {"_sklearn_version": "scikit-learn"}


class _Name(NamedTuple):
    path: str


class _Call(NamedTuple):
    """Something that loading would make by calling `maker`."""

    maker: Any
    arguments: Any


def read_info(content: bytes) -> ModelFileInfo:
    """What a pickle or a joblib file would import; `whole` is False where it could not be followed to its end."""
    survey = _Survey()
    try:
        survey.follow(io.BytesIO(decompress(content)))
        whole = True
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        whole = False
    return ModelFileInfo(imports=tuple(sorted(survey.imports)), versions=survey.versions, whole=whole)


class _Survey:
    """Follows the opcodes of pickle's stack machine; of values only constants, names and calls are kept."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.versions: dict[str, str] = {}

    def follow(self, stream: io.BytesIO) -> None:
        """Read one pickle off the stream; joblib's raw arrays between its opcodes are stepped over."""
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
                taken = _take(stack, opcode)
                given = self._apply(opcode.name, argument, taken)
                stack.extend([given] * len(opcode.stack_after))
                if opcode.name == "BUILD" and isinstance(given, _Call) and given.maker == _Name(_ARRAY):
                    self._step_over(stream, taken[-1])

    def _apply(self, opcode: str, argument: Any, taken: list[Any]) -> Any:
        if opcode in ("GLOBAL", "INST"):
            return self._import(*argument.split(" ", 1))
        if opcode == "STACK_GLOBAL":
            return self._import(*taken)
        if opcode.startswith("EXT"):
            return self._import("copyreg", f"extension_{argument}")
        if opcode in _CALLS:
            return _Call(taken[0], taken[1] if len(taken) > 1 else ())
        if opcode in ("EMPTY_DICT", "DICT"):
            return self._fill({}, taken)
        if opcode in _SETS:
            return self._fill(taken[0], taken[1:])
        if opcode.startswith("TUPLE") or opcode == "EMPTY_TUPLE":
            return tuple(taken)
        if opcode in ("BUILD", "DUP"):
            return taken[0]
        return argument

    def _import(self, module: Any, name: Any) -> _Name:
        known = isinstance(module, str) and isinstance(name, str)
        path = f"{module}.{name}" if known else _UNKNOWN
        self.imports.add(path)
        return _Name(path)

    def _fill(self, target: Any, pairs: list[Any]) -> Any:
        for key, value in zip(pairs[::2], pairs[1::2], strict=False):
            if not isinstance(key, str):
                continue
            if isinstance(target, dict):
                target[key] = value
            if key in _MADE_BY and isinstance(value, str):
                self.versions[_MADE_BY[key]] = value
        return target

    def _step_over(self, stream: io.BytesIO, state: dict[str, Any]) -> None:
        """Skip the bytes of an array: its padding, then its items; an array of objects is a pickle of its own."""
        code = state["dtype"].arguments[0]
        if code.startswith("O"):
            self.follow(stream)
            return
        if "numpy_array_alignment_bytes" in state:
            stream.seek(stream.read(1)[0], io.SEEK_CUR)
        stream.seek(math.prod(state["shape"]) * np.dtype(code).itemsize, io.SEEK_CUR)


def _take(stack: list[Any], opcode: pickletools.OpcodeInfo) -> list[Any]:
    """What an opcode takes off the stack; where it takes all down to the mark, the mark is left out."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        taken = stack[len(stack) - len(before) :]
        del stack[len(stack) - len(before) :]
        return taken
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    taken = stack[place + 1 :]
    del stack[place:]
    below = before.index(pickletools.markobject)
    under = stack[len(stack) - below :] if below else []
    del stack[len(stack) - below :]
    return under + taken
