"""What every codec promises: a value comes back as it was, and equal values are the same bytes everywhere."""

import os
import pickle
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from tidemill.store.codecs import Codec

_ENCODE = """
import pickle, sys
codec, values = pickle.load(sys.stdin.buffer)
pickle.dump([codec.encode(value) for value in values], sys.stdout.buffer)
"""


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

    def test_it_has_the_name_of_its_kind(self, codec: Codec) -> None:
        assert codec.kind.isidentifier()

    def test_it_accepts_its_own_and_leaves_the_rest(self, codec: Codec, values: list[Any], foreign: list[Any]) -> None:
        assert [value for value in values if not codec.accepts(value)] == []
        assert [value for value in foreign if codec.accepts(value)] == []

    def test_values_come_back_as_they_were(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            assert self.same(codec.decode(codec.encode(value), type(value)), value)

    def test_values_that_differ_have_bytes_that_differ(self, codec: Codec, values: list[Any]) -> None:
        assert len({codec.encode(value) for value in values}) == len(values)

    def test_what_came_back_is_the_same_bytes_again(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            content = codec.encode(value)
            assert codec.encode(codec.decode(content, type(value))) == content

    def test_another_process_makes_the_same_bytes(self, codec: Codec, values: list[Any]) -> None:
        other = subprocess.run(
            [sys.executable, "-c", _ENCODE],
            input=pickle.dumps((codec, values)),
            env=os.environ | {"PYTHONHASHSEED": "1"},
            capture_output=True,
            check=True,
        )
        assert pickle.loads(other.stdout) == [codec.encode(value) for value in values]

    def test_what_is_cut_off_is_refused(self, codec: Codec, values: list[Any]) -> None:
        content = max((codec.encode(value) for value in values), key=len)
        whole = codec.decode(content, Any)
        try:
            half = codec.decode(content[: len(content) // 2], Any)
        except Exception:  # noqa: BLE001 - whichever error its reader has
            return
        assert not self.same(half, whole)

    def test_the_summary_is_plain_data(self, codec: Codec, values: list[Any]) -> None:
        for value in values:
            summary = codec.summary(value)
            assert msgspec.json.decode(msgspec.json.encode(summary)) == summary
