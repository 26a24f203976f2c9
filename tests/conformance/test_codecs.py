"""The built-in codecs pass the codec suite."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tidemill.blobs.codecs import (
    ArrayCodec,
    BytesCodec,
    Codec,
    FrameCodec,
    JsonCodec,
    ModelCodec,
    PictureCodec,
    ReportCodec,
    TextCodec,
)
from tidemill.core.artifact import Picture, Report
from tidemill.core.check import Verdict
from tidemill.core.model import Input, Manifest, Model, Signature
from tidemill.core.run import Metrics
from tidemill.testing.codecs import CodecSuite

FRAME = pl.DataFrame(
    {
        "number": [1.5, None, float("nan")],
        "text": ["Zürich", "", None],
        "time": [datetime(2013, 3, 1, tzinfo=UTC), None, datetime(1969, 1, 1, tzinfo=UTC)],
        "date": [date(2013, 3, 1)] * 3,
        "flag": [True, False, None],
        "list": [[1, 2], [], None],
        "kind": pl.Series(["a", None, "b"], dtype=pl.Categorical),
        "binary": [b"", None, b"\0tide"],
        "nested": [{"a": 1}, None, {"a": None}],
    }
)
TABLE = pd.DataFrame(
    {
        "number": [1.5, None, -0.5],
        "text": ["Zürich", "", None],
        "time": pd.to_datetime(["2013-03-01", None, "1969-01-01"], utc=True),
        "kind": pd.Categorical(["a", "b", "a"]),
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
        wide = pl.DataFrame({f"a column with a long name, number {number}": [number] for number in range(2000)})
        return [FRAME, FRAME.head(1), FRAME.clear(), FRAME.select("number"), pl.DataFrame(), wide]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [{"a": [1]}, b"frame", FRAME["number"], FRAME.lazy(), np.array([1])]

    def same(self, first: Any, second: Any) -> bool:
        return type(first) is type(second) and first.schema == second.schema and first.equals(second)


class TestPandas(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return FrameCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        numbered = pd.DataFrame([[1, 2], [3, 4]])
        series = [TABLE.number, TABLE.number.rename(None), TABLE.kind, TABLE.set_index("text").number]
        return [TABLE, TABLE[TABLE.number > 0], TABLE.set_index("number"), TABLE.head(0), numbered, *series]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [TABLE.index, TABLE.to_dict()]

    def same(self, first: Any, second: Any) -> bool:
        named = not isinstance(second, pd.Series) or first.name == second.name
        return type(first) is type(second) and first.equals(second) and first.index.equals(second.index) and named


class TestArrow(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return FrameCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        table = pa.table({"number": [1.5, None, 2.0], "text": ["Zürich", "", None]})
        return [table, table.slice(1), table.slice(0, 0), table.replace_schema_metadata({"made": "here"})]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [pa.array([1])]

    def same(self, first: Any, second: Any) -> bool:
        return type(first) is type(second) and bool(first.equals(second, check_metadata=True))


class TestArrays(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return ArrayCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        square = np.arange(6.0).reshape(2, 3)
        texts, times = np.array(["Zürich", ""]), np.array(["2013-03-01"], dtype="datetime64[us]")
        return [
            square,
            square.T,
            square[:, ::2],
            np.array(1.5),
            np.array([]),
            np.array([np.nan, -np.inf]),
            texts,
            times,
        ]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [[1, 2], np.float64(1.5), np.ma.array([1], mask=[True])]

    def same(self, first: Any, second: Any) -> bool:
        return (
            type(first) is type(second)
            and first.dtype == second.dtype
            and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
        )


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
            2**100,
            0.1 + 0.2,
            [1, [2, None]],
            (1, "Zürich"),
            {"b": 1, "a": {"c": None}},
            {"a", "b", "c", "d"},
            datetime(2013, 3, 1, 12, tzinfo=UTC),
            Decimal("0.10"),
            UUID(int=1),
            Metrics(values={"log_loss": 0.25, "auc": 1.0}, slices={"origin=JFK": {"rows": 3.0}}),
            Verdict(check="gate", subject="late", outcome="pass", action="proceed", reason="good"),
        ]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [object(), FRAME, print, [object()], {"a": [FRAME]}, {1: "a", "1": "b"}, dict, np.array([1]), 1j]


class TestText(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return TextCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        return ["", "tide", "Zürich\r\n\0", "\ufeff", "\ufefftide", "𝄞"]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [b"tide", 1, None]


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


class TestReports(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return ReportCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        return [Report(html=""), Report(html="<p>Zürich</p>")]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return ["<p>tide</p>", Picture(png=b"")]


class TestPictures(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return PictureCodec()

    @pytest.fixture
    def values(self) -> list[Any]:
        return [Picture(png=b""), Picture(png=b"\x89PNG tide")]

    @pytest.fixture
    def foreign(self) -> list[Any]:
        return [b"\x89PNG", Report(html="")]
