"""Conformance suite of codecs: values are read as written, and equal values have equal bytes in every process."""

import errno
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec
import pytest

from tidemill.blobs.codecs import Codec
from tidemill.blobs.store import DiskBlobs

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_WRITE = """
import pickle, sys
from tidemill.testing.codecs import write_value
codec, values = pickle.load(sys.stdin.buffer)
pickle.dump([write_value(codec, value) for value in values], sys.stdout.buffer)
"""


class Sink(io.RawIOBase):
    """A sink that supports only sequential writes, as the draft of a blob does."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: "ReadableBuffer", /) -> int:
        with memoryview(content) as view:
            self.content += view.cast("B")
            return view.nbytes


def write_value(codec: Codec, value: Any) -> bytes:
    """Return the bytes that a codec writes for a value."""
    sink = Sink()
    codec.write(value, cast("BinaryIO", sink))
    return bytes(sink.content)


class CodecSuite:
    """Subclass it and define the fixtures `codec`, `values` and `foreign`; codec and values must be picklable.

    ::

        class TestMyCodec(CodecSuite):
            @pytest.fixture
            def codec(self):
                return MyCodec()

            @pytest.fixture
            def values(self):
                return [Thing(1), Thing(2)]

            @pytest.fixture
            def foreign(self):
                return [object()]
    """

    @pytest.fixture
    def codec(self) -> Codec:
        """The codec."""
        raise NotImplementedError("define the fixture `codec`")

    @pytest.fixture
    def values(self) -> list[Any]:
        """Values of every type that the codec accepts; no two values are equal."""
        raise NotImplementedError("define the fixture `values`")

    @pytest.fixture
    def foreign(self) -> list[Any]:
        """Values that the codec must not accept."""
        raise NotImplementedError("define the fixture `foreign`")

    def same(self, first: Any, second: Any) -> bool:
        """Return whether two values are equal; override it if `==` does not return a boolean."""
        return type(first) is type(second) and bool(first == second)

    def read(self, codec: Codec, content: bytes, value: Any) -> Any:
        """Read a value from bytes, with the type of another value as annotation."""
        return codec.read(io.BytesIO(content), type(value))

    def test_the_kind_is_a_name(self, codec: Codec) -> None:
        assert codec.kind.isidentifier()

    def test_only_supported_values_are_accepted(self, codec: Codec, values: list[Any], foreign: list[Any]) -> None:
        assert [value for value in values if not codec.accepts(value)] == []
        assert [value for value in foreign if codec.accepts(value)] == []

    def test_values_are_read_as_written(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            assert self.same(self.read(codec, write_value(codec, value), value), value)

    def test_values_are_read_from_the_blobs_as_written(self, codec: Codec, values: list[Any], tmp_path: Path) -> None:
        blobs = DiskBlobs(tmp_path)
        for value in values:
            with blobs.draft() as draft:
                codec.write(value, cast("BinaryIO", draft))
                digest = draft.keep()
            with blobs.open(digest) as source:
                assert self.same(codec.read(source, type(value)), value)

    def test_different_values_have_different_bytes(self, codec: Codec, values: list[Any]) -> None:
        assert len({write_value(codec, value) for value in values}) == len(values)

    def test_a_value_that_was_read_has_the_same_bytes(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            content = write_value(codec, value)
            assert write_value(codec, self.read(codec, content, value)) == content

    def test_another_process_writes_the_same_bytes(self, codec: Codec, values: list[Any]) -> None:
        process = subprocess.run(
            [sys.executable, "-c", _WRITE],
            input=pickle.dumps((codec, values)),
            env=os.environ | {"PYTHONHASHSEED": "1"},
            capture_output=True,
            check=True,
        )
        assert pickle.loads(process.stdout) == [write_value(codec, value) for value in values]

    def test_truncated_bytes_are_an_error(self, codec: Codec, values: list[Any]) -> None:
        value = max(values, key=lambda value: len(write_value(codec, value)))
        content = write_value(codec, value)
        try:
            half = self.read(codec, content[: len(content) // 2], value)
        except Exception:  # noqa: BLE001 - each reader raises its own type of error
            return
        assert not self.same(half, value)

    def test_the_error_of_a_full_sink_is_raised(self, codec: Codec, values: list[Any]) -> None:
        class Full(Sink):
            def write(self, content: "ReadableBuffer", /) -> int:  # noqa: ARG002 - the interface of a sink
                raise OSError(errno.ENOSPC, "No space left on device")

        value = max(values, key=lambda value: len(write_value(codec, value)))
        with pytest.raises(OSError, match="No space left"):
            codec.write(value, cast("BinaryIO", Full()))

    def test_the_summary_is_plain_data(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            summary = codec.summary(value)
            assert msgspec.json.decode(msgspec.json.encode(summary)) == summary
            assert len(msgspec.json.encode(summary)) < 20_000
