"""Inspects a pickle without loading it: the names that it would import, and the versions that created it.

It only follows the opcodes: it imports, calls and creates nothing. The list of names helps a person to decide whether
to trust the file. It is complete (`whole`) only if nothing in the file can make pickle read other bytes than this
reader: joblib writes arrays between the opcodes, so the reader must know each array, its type and its length exactly.
"""

import bz2
import gzip
import io
import lzma
import math
import pickletools
import zlib
from typing import Any, BinaryIO

import numpy as np

from tidemill.models.file_info import ModelFileInfo
from tidemill.models.pickle_parts import ARRAY, DATA_TYPE, Array, Call, DataType, Name, is_array_type, read_data_type

UNKNOWN = "?"
_MARK = object()
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_SETS = ("SETITEM", "SETITEMS")
_CALLS = ("REDUCE", "NEWOBJ", "NEWOBJ_EX")
_KEPT = ("POP", "POP_MARK", "STOP")
_VERSION_KEYS = {"_sklearn_version": "scikit-learn"}
_ARRAY_KEYS = {"subclass", "shape", "order", "dtype", "allow_mmap"}
_PADDING = "numpy_array_alignment_bytes"
_MOST_BYTES = 1 << 32
_MOST_IMPORTS = 10_000
_BLOCK = 1 << 20


class _Refused(ValueError):
    """The reader cannot know which bytes pickle would read next."""


def read_info(content: bytes) -> ModelFileInfo:
    """Return the imports of a pickle or joblib file; `whole` is False if the list may be incomplete."""
    reader = _OpcodeReader()
    doubt = ""
    try:
        reader.follow(_Stream(_open(content)), has_arrays=True)
    except _Refused as refused:
        doubt = str(refused)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, EOFError, OSError):
        doubt = "it cannot be read to its end"
    except (zlib.error, lzma.LZMAError):
        doubt = "its compressed bytes are damaged"
    doubt = doubt or reader.doubt
    return ModelFileInfo(imports=tuple(sorted(reader.imports)), versions=reader.versions, whole=not doubt, doubt=doubt)


def _open(content: bytes) -> BinaryIO:
    """Open a file that joblib may have compressed; it is decompressed piece by piece."""
    raw = io.BytesIO(content)
    opened: Any = raw
    if content[:2] == b"\x1f\x8b":
        opened = gzip.open(raw)  # noqa: SIM115 - it reads from memory
    elif content[:1] == b"\x78":
        opened = io.BufferedReader(_Zlib(raw), _BLOCK)
    elif content[:3] == b"BZh":
        opened = bz2.open(raw)  # noqa: SIM115 - it reads from memory
    elif content[:3] in (b"\x5d\x00\x00", b"\xfd7z"):
        opened = lzma.open(raw)  # noqa: SIM115 - it reads from memory
    elif content[:4] == b"\x04\x22\x4d\x18":
        raise _Refused("it is compressed with LZ4, which this reader does not know")
    return opened  # type: ignore[no-any-return]


class _Zlib(io.RawIOBase):
    """A stream in zlib's format, as joblib writes it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decompressor = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decompressor.eof:
            source = self._decompressor.unconsumed_tail or self._raw.read(_BLOCK)
            part = self._decompressor.decompress(source, len(buffer))
            if part:
                buffer[: len(part)] = part
                return len(part)
            if not source:
                raise EOFError
        return 0


class _Stream:
    """A stream of opcodes that counts its bytes, up to a limit, and knows the end of the present frame."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = self._frame_end = 0

    def read(self, size: int) -> bytes:
        if size > _MOST_BYTES or self._position > _MOST_BYTES:
            raise _Refused("it is larger than a reader can check")
        part = self._file.read(size)
        self._position += len(part)
        return part

    def readline(self) -> bytes:
        part = self._file.readline(_BLOCK)
        self._position += len(part)
        return part

    def tell(self) -> int:
        return self._position

    def skip(self, size: int) -> None:
        """Read bytes that are no opcodes: they must come after the frame, from which pickle takes the opcodes."""
        if self._frame_end > self._position:
            raise _Refused("it has an array within a frame of opcodes")
        while size > 0:
            part = self.read(min(size, _BLOCK))
            if not part:
                raise EOFError
            size -= len(part)

    def begin_frame(self, size: int) -> None:
        self._frame_end = self._position + size


class _OpcodeReader:
    """Follows the opcodes of pickle's stack machine, and keeps only constants, names, calls and types of arrays."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.versions: dict[str, str] = {}
        self.doubt = ""

    def follow(self, stream: _Stream, *, has_arrays: bool) -> None:
        """Read one pickle from the stream; `has_arrays` is whether joblib reads it, with arrays between its opcodes."""
        stack: list[Any] = []
        memo: dict[Any, Any] = {}
        for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]  # it has `read` and `tell`
            name = opcode.name
            if name == "FRAME":
                stream.begin_frame(int(argument or 0))
            elif name == "MARK":
                stack.append(_MARK)
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in _PUTS:
                memo[argument] = stack[-1]
            elif name in _GETS:
                stack.append(memo[argument])
            elif name == "BUILD":
                self._build(stream, stack, has_arrays=has_arrays)
            else:
                operands = _pop_operands(stack, opcode)
                result = self._apply(name, argument, operands)
                stack.extend([result] * len(opcode.stack_after))

    def _build(self, stream: _Stream, stack: list[Any], *, has_arrays: bool) -> None:
        """Set the state of an object; that of an array of joblib is followed by its bytes."""
        state, target = stack.pop(), stack[-1]
        if isinstance(target, Array):
            if not has_arrays:
                raise _Refused("it has an array of joblib where joblib does not read one")
            self._skip_array(stream, state)
            stack[-1] = None  # the array itself, which is data
            return
        self._require_no_array([state])
        if isinstance(target, DataType):
            target.set_state(state)
        elif target is _MARK or isinstance(target, Name):
            raise _Refused("it changes a function or a class")
        elif isinstance(target, Call) and not target.has_known_result:
            self._doubt(f"it is unknown what {target.function_name} returns, which then gets a state")

    def _apply(self, opcode: str, argument: Any, operands: list[Any]) -> Any:
        if opcode in ("GLOBAL", "INST"):
            found = self._import(*argument.split(" ", 1))
            self._require_no_array([*operands, found] if opcode == "INST" else operands)
            return Call(found, None, is_class=True) if opcode == "INST" else found
        if opcode == "STACK_GLOBAL":
            return self._import(*operands)
        if opcode.startswith("EXT"):
            self._doubt("it imports a name by a number")
            return self._import("copyreg", f"extension_{argument}")
        if opcode in ("PERSID", "BINPERSID"):
            self._doubt("it refers to an object outside the file")
            return None
        if opcode == "NEWOBJ" and is_array_type(operands[0]) and operands[1:] == [()]:
            return Array()
        if opcode not in _KEPT:
            self._require_no_array(operands)
        if opcode in _CALLS:
            return self._call(opcode, operands)
        if opcode == "OBJ":
            return Call(operands[0] if operands else None, None, is_class=True)
        if opcode in ("EMPTY_DICT", "DICT"):
            return self._fill({}, operands)
        if opcode in _SETS:
            return self._fill(operands[0], operands[1:])
        if opcode.startswith("TUPLE") or opcode == "EMPTY_TUPLE":
            return tuple(operands)
        if opcode == "DUP":
            return operands[0]
        return argument

    def _call(self, opcode: str, operands: list[Any]) -> Any:
        function, arguments = operands[0], operands[1] if len(operands) > 1 else ()
        if not isinstance(function, Name):
            self._doubt("it calls what another call returned")
        if opcode == "REDUCE" and function == Name(DATA_TYPE):
            return read_data_type(arguments)
        return Call(function, arguments, is_class=opcode != "REDUCE")

    def _require_no_array(self, values: list[Any]) -> None:
        """Raise unless arrays of joblib are used as joblib does: otherwise it is unknown where their bytes are."""
        if any(isinstance(value, Array) or is_array_type(value) for value in values):
            raise _Refused("it uses an array of joblib in another way than joblib does")

    def _import(self, module: Any, name: Any) -> Name:
        is_constant = isinstance(module, str) and isinstance(name, str)
        path = f"{module}.{name}" if is_constant else UNKNOWN
        if not is_constant:
            self._doubt("it computes the name of an import")
        if len(self.imports) < _MOST_IMPORTS:
            self.imports.add(path)
        elif path not in self.imports:
            raise _Refused("it has too many imports")
        if path != ARRAY and (path.startswith("joblib.") or path.endswith("ArrayWrapper")):
            self._doubt(f"it imports {path}, which reads bytes in its own way")
        return Name(path)

    def _doubt(self, reason: str) -> None:
        self.doubt = self.doubt or reason

    def _fill(self, target: Any, pairs: list[Any]) -> Any:
        for key, value in zip(pairs[::2], pairs[1::2], strict=False):
            if not isinstance(key, str):
                if isinstance(target, dict):
                    target[UNKNOWN] = None
                continue
            if isinstance(target, dict):
                target[key] = value
            if key in _VERSION_KEYS and isinstance(value, str):
                self.versions[_VERSION_KEYS[key]] = value
        return target

    def _skip_array(self, stream: _Stream, state: Any) -> None:
        """Skip the bytes of an array: its padding, then its items; an array of objects is a pickle itself."""
        if not isinstance(state, dict) or not _ARRAY_KEYS <= set(state) <= _ARRAY_KEYS | {_PADDING}:
            raise _Refused("it has an array whose description is not that of joblib")
        kind, shape = state["dtype"], state["shape"]
        if not isinstance(kind, DataType) or not kind.is_known():
            raise _Refused("it has an array of an unknown type")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise _Refused("it has an array of an unknown shape")
        if kind.is_object:
            stream.skip(0)
            self.follow(stream, has_arrays=False)
            return
        if state.get(_PADDING) is not None:
            stream.skip(0)
            stream.skip(stream.read(1)[0])
        stream.skip(math.prod(shape) * np.dtype(kind.code).itemsize)


def _pop_operands(stack: list[Any], opcode: pickletools.OpcodeInfo) -> list[Any]:
    """Pop the operands of an opcode from the stack; remove the mark if the opcode uses all values above it."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        if len(stack) < len(before):
            raise LookupError
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
