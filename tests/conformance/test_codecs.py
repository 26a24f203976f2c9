"""The codecs of the house."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from tidemill.core.check import Verdict
from tidemill.core.model import Input, Manifest, Model, Signature
from tidemill.core.run import Metrics
from tidemill.store.codecs import BytesCodec, Codec, FrameCodec, JsonCodec, ModelCodec
from tidemill.testing.codecs import CodecSuite

FRAME = pl.DataFrame(
    {
        "number": [1.5, None, float("nan")],
        "text": ["Zürich", "", None],
        "time": [datetime(2013, 3, 1, tzinfo=UTC), None, datetime(1969, 1, 1, tzinfo=UTC)],
        "date": [date(2013, 3, 1)] * 3,
        "flag": [True, False, None],
        "list": [[1, 2], [], None],
    }
)
MODEL = Model(
    manifest=Manifest(
        name="late",
        flavor="lightgbm",
        signature=Signature(inputs=(Input(name="wind", type="number"),), task="classification", classes=("no", "yes")),
        metrics={"log_loss": 0.1 + 0.2},
    ),
    files={"model.txt": b"tree" * 1000, "a/b.bin": bytes(range(256))},
)


class TestFrames(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return FrameCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        return [FRAME, FRAME.head(1), FRAME.clear(), FRAME.select("number"), pl.DataFrame()]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [{"a": [1]}, b"frame", FRAME["number"], FRAME.lazy()]

    def same(self, one: Any, other: Any) -> bool:
        return type(one) is type(other) and one.schema == other.schema and one.equals(other)


class TestModels(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return ModelCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        return [MODEL, Model(manifest=MODEL.manifest), Model(manifest=MODEL.manifest, files={"model.txt": b""})]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [MODEL.manifest, b"model", {}]


class TestJson(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return JsonCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        return [
            None,
            True,
            1,
            1.5,
            2**63,
            0.1 + 0.2,
            "Zürich",
            [1, [2, None]],
            {"b": 1, "a": {"c": None}},
            {"a", "b", "c", "d"},
            datetime(2013, 3, 1, 12, tzinfo=UTC),
            Metrics(values={"log_loss": 0.25, "auc": 1.0}, slices={"origin=JFK": {"rows": 3.0}}),
            Verdict(check="gate", subject="late", outcome="pass", action="proceed", reason="good"),
        ]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [object(), FRAME, print, [object()]]


class TestBytes(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return BytesCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        return [b"", b"tide", bytes(range(256))]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return ["tide", 1, None]
