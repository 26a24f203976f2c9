"""Which codec keeps which value; what each codec promises is in tests/conformance."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.run import Metrics
from tidemill.errors import DataError, NotFound, TidemillError
from tidemill.store.codecs import codec_for, codec_of

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_each_value_finds_its_codec() -> None:
    model = Model(manifest=Manifest(name="late", flavor="f", signature=Signature(inputs=(), task="regression")))
    kinds = [codec_for(value).kind for value in (pl.DataFrame(), model, b"", {"a": 1}, None)]
    assert kinds == ["frame", "model", "bytes", "json", "json"]
    assert [codec_of(kind).kind for kind in kinds] == kinds


def test_what_no_codec_keeps_is_told_with_what_is_kept() -> None:
    with pytest.raises(TidemillError, match=r"no codec can keep a .*object") as refused:
        codec_for(object())
    assert "tidemill.codecs" in refused.value.cure
    with pytest.raises(NotFound, match="parchment"):
        codec_of("parchment")


@given(plain)
def test_plain_data_comes_back(value: Any) -> None:
    codec = codec_for(value)
    assert codec.decode(codec.encode(value), Any) == value


@given(st.dictionaries(st.text(), plain, max_size=6), st.randoms())
def test_the_order_of_a_table_does_not_change_its_bytes(value: dict[str, Any], random: Any) -> None:
    turned = list(value.items())
    random.shuffle(turned)
    assert codec_for(value).encode(dict(turned)) == codec_for(value).encode(value)


class Half(Struct):
    share: float


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [1.0, float("inf")],
        {"a": {"b": float("-inf")}},
        Metrics(values={"log_loss": float("nan")}),
        [Half(float("nan"))],
    ],
    ids=str,
)
def test_a_number_that_json_would_lose_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="not finite") as refused:
        codec_for(value).encode(value)
    assert refused.value.cure


def test_a_verdict_may_say_that_something_was_no_number() -> None:
    verdict = Verdict(
        check="gate", subject="s", outcome="fail", action="stop", reason="r", evidence={"loss": float("nan")}
    )
    codec = codec_for(verdict)
    assert codec.decode(codec.encode(verdict), Verdict).evidence == {"loss": None}
