"""What every codec promises: a value comes back as it was, and equal values are the same bytes everywhere."""

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
from tidemill.testing.codecs import written
codec, values = pickle.load(sys.stdin.buffer)
pickle.dump([written(codec, value) for value in values], sys.stdout.buffer)
"""


class Sink(io.RawIOBase):
    """Takes bytes in their order and can do no more, as the draft of a blob."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: "ReadableBuffer", /) -> int:
        with memoryview(content) as view:
            self.content += view.cast("B")
            return view.nbytes


def written(codec: Codec, value: Any) -> bytes:
    """The bytes that a codec makes of a value."""
    sink = Sink()
    codec.write(value, cast("BinaryIO", sink))
    return bytes(sink.content)


class CodecSuite:
    """Inherit it and give the fixtures `codec`, `values` and `foreign`; codec and values must be picklable.

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
        raise NotImplementedError("give the fixture `codec`")

    @pytest.fixture
    def values(self) -> list[Any]:
        """Values of every kind that it keeps, no two of them equal."""
        raise NotImplementedError("give the fixture `values`")

    @pytest.fixture
    def foreign(self) -> list[Any]:
        """Values that it must leave to other codecs."""
        raise NotImplementedError("give the fixture `foreign`")

    def same(self, one: Any, other: Any) -> bool:
        """Whether two values are equal; override it where `==` does not say so."""
        return type(one) is type(other) and bool(one == other)

    def read(self, codec: Codec, content: bytes, value: Any) -> Any:
        """What a codec reads from bytes for a consumer that asks for the type of a value."""
        return codec.read(io.BytesIO(content), type(value))

    def test_it_has_the_name_of_its_kind(self, codec: Codec) -> None:
        assert codec.kind.isidentifier()

    def test_it_accepts_its_own_and_leaves_the_rest(self, codec: Codec, values: list[Any], foreign: list[Any]) -> None:
        assert [value for value in values if not codec.accepts(value)] == []
        assert [value for value in foreign if codec.accepts(value)] == []

    def test_values_come_back_as_they_were(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            assert self.same(self.read(codec, written(codec, value), value), value)

    def test_values_come_back_from_the_blobs(self, codec: Codec, values: list[Any], tmp_path: Path) -> None:
        blobs = DiskBlobs(tmp_path)
        for value in values:
            with blobs.draft() as draft:
                codec.write(value, cast("BinaryIO", draft))
                digest = draft.keep()
            with blobs.open(digest) as source:
                assert self.same(codec.read(source, type(value)), value)

    def test_values_that_differ_have_bytes_that_differ(self, codec: Codec, values: list[Any]) -> None:
        assert len({written(codec, value) for value in values}) == len(values)

    def test_what_came_back_is_the_same_bytes_again(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            content = written(codec, value)
            assert written(codec, self.read(codec, content, value)) == content

    def test_another_process_makes_the_same_bytes(self, codec: Codec, values: list[Any]) -> None:
        other = subprocess.run(
            [sys.executable, "-c", _WRITE],
            input=pickle.dumps((codec, values)),
            env=os.environ | {"PYTHONHASHSEED": "1"},
            capture_output=True,
            check=True,
        )
        assert pickle.loads(other.stdout) == [written(codec, value) for value in values]

    def test_what_is_cut_off_is_refused(self, codec: Codec, values: list[Any]) -> None:
        value = max(values, key=lambda value: len(written(codec, value)))
        content = written(codec, value)
        try:
            half = self.read(codec, content[: len(content) // 2], value)
        except Exception:  # noqa: BLE001 - whichever error its reader has
            return
        assert not self.same(half, value)

    def test_a_sink_that_is_full_is_told(self, codec: Codec, values: list[Any]) -> None:
        class Full(Sink):
            def write(self, content: "ReadableBuffer", /) -> int:  # noqa: ARG002 - a sink's
                raise OSError(errno.ENOSPC, "No space left on device")

        value = max(values, key=lambda value: len(written(codec, value)))
        with pytest.raises(OSError, match="No space left"):
            codec.write(value, cast("BinaryIO", Full()))

    def test_the_summary_is_plain_data(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            summary = codec.summary(value)
            assert msgspec.json.decode(msgspec.json.encode(summary)) == summary
            assert len(msgspec.json.encode(summary)) < 20_000
