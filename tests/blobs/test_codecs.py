"""The codec of each value, and how it is read; tests/conformance tests the common behaviour of the codecs."""

import io
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tidemill.blobs.codecs import FrameCodec, encode, load_codec, require_codec
from tidemill.core.artifact import Picture, Report
from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.run import Metrics
from tidemill.errors import DataError, NotFound, TidemillError

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
columns: st.SearchStrategy[dict[str, list[Any]]] = st.integers(0, 20).flatmap(
    lambda rows: st.fixed_dictionaries(
        {
            "number": st.lists(st.none() | st.floats(allow_nan=False), min_size=rows, max_size=rows),
            "text": st.lists(st.none() | st.text(max_size=20), min_size=rows, max_size=rows),
            "flag": st.lists(st.none() | st.booleans(), min_size=rows, max_size=rows),
            "day": st.lists(st.none() | st.dates(date(1900, 1, 1)), min_size=rows, max_size=rows),
        }
    )
)
_TYPES = {"number": pl.Float64, "text": pl.String, "flag": pl.Boolean, "day": pl.Date}


class Size(Enum):
    SMALL = "small"


@dataclass
class Place:
    name: str
    heights: dict[int, float]


class Half(Struct):
    share: float


def write_and_read(value: Any, annotation: Any) -> Any:
    return require_codec(value).read(io.BytesIO(encode(value)), annotation)


def test_each_value_has_its_codec() -> None:
    model = Model(manifest=Manifest(name="late", flavor="f", signature=Signature(inputs=(), task="regression")))
    values = [
        pl.DataFrame(),
        pd.DataFrame(),
        pa.table({}),
        model,
        b"",
        "",
        np.array([1]),
        {"a": 1},
        None,
        np.float32(1),
    ]
    kinds = [require_codec(value).kind for value in values]
    assert kinds == ["frame", "frame", "frame", "model", "bytes", "text", "array", "json", "json", "json"]
    assert [require_codec(value).kind for value in (Report(html=""), Picture(png=b""), go.Figure())] == [
        "html",
        "png",
        "html",
    ]
    assert [load_codec(kind).kind for kind in kinds] == kinds


def test_the_error_for_an_unsupported_value_lists_the_supported_types() -> None:
    with pytest.raises(TidemillError, match=r"no codec can store a .*object") as error:
        require_codec(object())
    assert "tidemill.codecs" in error.value.cure
    with pytest.raises(NotFound, match="parchment"):
        load_codec("parchment")


@given(plain)
def test_plain_data_comes_write_and_read(value: Any) -> None:
    assert write_and_read(value, Any) == value


@given(st.dictionaries(st.text(), plain, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_change_the_bytes(value: dict[str, Any], random: Any) -> None:
    turned = list(value.items())
    random.shuffle(turned)
    assert encode(dict(turned)) == encode(value)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Place("Zürich", {8: 408.5, 1: 0.0}), Place),
        (Size.SMALL, Size),
        ({3: "a", 10: "b"}, dict[int, str]),
        ({date(2013, 3, 1): 1}, dict[date, int]),
        ("small", Size),
        ("small", str | None),
        (np.float32(0.5), float),
        ({"auc": np.float64(0.5), "rows": np.int64(3)}, dict[str, float]),
        ({"ok": np.bool_(True)}, dict[str, bool]),
        (1.5, np.float64),
    ],
    ids=repr,
)
def test_plain_data_is_read_as_its_annotation(value: Any, annotation: Any) -> None:
    found = write_and_read(value, annotation)
    assert found == (Size(value) if annotation is Size else value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [1.0, float("inf")],
        {"a": {"b": float("-inf")}},
        {1: float("nan")},
        Metrics(values={"log_loss": float("nan")}),
        [Half(float("nan"))],
        Place("nowhere", {0: float("nan")}),
        np.float32("nan"),
        {"auc": np.float64("inf")},
    ],
    ids=str,
)
def test_a_number_that_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="not finite") as error:
        encode(value)
    assert error.value.cure


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("\ud800", "not valid Unicode"),
        ({(1, 2): 3}, "cannot be stored as JSON"),
        (Place("frame", pl.DataFrame()), "cannot be stored as JSON: it contains a polars"),  # type: ignore[arg-type]
        (np.array([object()]), "never pickled"),
        (pl.DataFrame({"thing": [object()]}), "frame cannot be stored"),
        (pd.DataFrame({"thing": [1, "x", object()]}), "frame cannot be stored"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "frame cannot be stored"),
        (pd.DataFrame([[1, 2]], columns=["a", 1]), "frame cannot be stored: its column names"),
    ],
    ids=["half a character", "tuple keys", "frame inside", "objects", "polars", "pandas", "two of a name", "mixed"],
)
def test_a_value_that_cannot_be_read_back_is_refused(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        encode(value)
    assert error.value.cure


def test_the_evidence_of_a_verdict_may_contain_none() -> None:
    verdict = Verdict(
        check="gate", subject="s", outcome="fail", action="stop", reason="r", evidence={"loss": float("nan")}
    )
    assert write_and_read(verdict, Verdict).evidence == {"loss": None}


def test_text_and_plain_data_with_equal_characters_have_different_bytes() -> None:
    assert encode("1") not in (encode(1), encode(b"1"))
    assert encode("") != encode(b"")


@settings(max_examples=40, deadline=None)
@given(columns)
def test_frames_are_read_with_the_library_of_the_annotation(table: dict[str, list[Any]]) -> None:
    frame = pl.DataFrame(table, schema=_TYPES)
    assert write_and_read(frame, pl.DataFrame).equals(frame)
    assert write_and_read(write_and_read(frame, pa.Table), pl.DataFrame).equals(frame)
    as_pandas = write_and_read(frame, pd.DataFrame)
    assert as_pandas.shape == frame.shape
    assert write_and_read(as_pandas, pd.DataFrame).equals(as_pandas)
    assert write_and_read(as_pandas, Any).equals(as_pandas)


@settings(max_examples=40, deadline=None)
@given(columns, st.integers(0, 10), st.integers(0, 10))
def test_equal_frames_have_equal_bytes(table: dict[str, list[Any]], first: int, cut: int) -> None:
    frame = pl.DataFrame(table, schema=_TYPES)
    fresh = encode(frame)
    longer = pl.concat([frame.clear(n=first), frame, frame.clear(n=2)])
    assert encode(longer.slice(first, frame.height)) == fresh
    assert encode(pl.concat([frame.head(cut), frame.slice(cut)], rechunk=False)) == fresh
    # The memory below its nulls has other values.
    filled = frame.with_columns(pl.col("number").fill_null(1.0), pl.col("text").fill_null("what was there before"))
    masked = filled.with_columns(
        pl.when(pl.Series(frame[name].is_not_null())).then(pl.col(name)).alias(name) for name in ("number", "text")
    )
    assert encode(masked) == fresh


def test_filtered_rows_are_not_in_the_bytes() -> None:
    frame = pl.DataFrame({"name": [f"somebody whose name is long, number {number}" for number in range(200)]})
    kept = frame.filter(pl.col("name").str.ends_with("7") | (pl.int_range(200) > 20))
    assert FrameCodec().read(io.BytesIO(encode(kept)), Any).equals(kept)
    assert encode(kept) == encode(pl.DataFrame({"name": kept["name"].to_list()}))


def test_the_index_of_pandas_is_kept_and_a_named_one_is_a_column_elsewhere() -> None:
    frame = pd.DataFrame({"wind": [1.0, 2.0, 3.0]}, index=["a", "b", "c"])
    assert write_and_read(frame, Any).index.to_list() == ["a", "b", "c"]
    assert write_and_read(frame, pl.DataFrame).columns == ["wind"]
    assert write_and_read(frame, pa.Table).column_names == ["wind"]
    named = frame.rename_axis("place")
    assert write_and_read(named, pl.DataFrame)["place"].to_list() == ["a", "b", "c"]
    assert write_and_read(named, pd.DataFrame | None).equals(named)


def test_a_figure_is_written_as_a_page_without_external_scripts() -> None:
    parts = {"layout": {"title": {"text": "Gezeiten"}}, "data": [{"type": "scatter", "y": [1.5, None]}]}
    figure = go.Figure(data=parts["data"], layout=parts["layout"])
    content = encode(figure)
    assert content == encode(go.Figure(figure.to_plotly_json()))
    page = require_codec(figure).read(io.BytesIO(content), Report)
    assert "Gezeiten" in page.html
    assert 'src="http' not in page.html
    assert require_codec(figure).summary(figure) == {"title": "Gezeiten", "traces": 1}


@pytest.mark.parametrize(
    ("value", "summary"),
    [
        (pl.DataFrame({"a": [1], "b": ["x"]}), {"rows": 1, "columns": {"a": "Int64", "b": "String"}}),
        (pd.DataFrame({"a": [1.5]}), {"rows": 1, "columns": {"a": "float64"}}),
        (pa.table({"a": [1.5]}), {"rows": 1, "columns": {"a": "double"}}),
        (np.zeros((2, 3), dtype=np.float32), {"shape": [2, 3], "dtype": "float32"}),
        ("Zürich", {"characters": 6}),
        ([1, 2], {"type": "list", "items": 2}),
        (Report(html="<p>"), {"characters": 3}),
        (Picture(png=b"png"), {"bytes": 3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_summary_describes_the_value(value: Any, summary: dict[str, Any]) -> None:
    assert require_codec(value).summary(value) == summary


def test_the_summary_of_a_wide_frame_is_shortened_with_the_number_of_columns() -> None:
    summary = FrameCodec().summary(pl.DataFrame({f"c{number}": [1] for number in range(1000)}))
    assert (len(summary["columns"]), summary["width"]) == (200, 1000)


def test_frames_and_text_of_the_first_version_can_be_read() -> None:
    frame = pl.DataFrame({"name": ["somebody whose name is long", None], "kind": [1, 2]})
    old = io.BytesIO()
    frame.write_ipc(old, compression="zstd")
    old.seek(0)
    assert load_codec("frame").read(old, Any).equals(frame)
    assert load_codec("json").read(io.BytesIO(b'"Z\xc3\xbcrich"'), str) == "Zürich"
