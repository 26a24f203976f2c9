"""Offline equals online: transformations compute for a request what they computed for the training rows."""

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from tidemill.core.feature import FeatureSet, RowTransformation
from tidemill.data.rows import RowReader
from tidemill.errors import ConfigurationError, DataError
from tidemill.models import portable, row_transformations
from tidemill.models.packaged_code import PackagedModules
from tidemill.models.transforming import Transformer, check_row_wise, declare_raw_inputs, transform

CODE = """
import math
import numpy as np
import polars as pl

def ratio(distance, pieces):
    return distance / np.maximum(pieces, 1)

def word(word):
    return word.str.strip_chars().str.to_lowercase()

def hour(ordered):
    return pl.when(ordered.is_null()).then(-1).otherwise(ordered.dt.hour())

def month(day):
    return [None if value is None else value.month for value in day]

def both(rows):
    return [(pl.col("word").str.len_chars() + pl.col("pieces")).alias("size"), pl.col("express").not_().alias("slow")]

def logged(ratio):
    return [None if value is None else math.log1p(abs(value)) for value in ratio]
"""


def definition(name: str, *inputs: str, outputs: tuple[str, ...] = (), frame: bool = False) -> RowTransformation:
    return RowTransformation(name=name, inputs=inputs, outputs=outputs or (name,), takes_frame=frame)


FEATURES = FeatureSet(
    request=("distance", "pieces", "word", "express", "ordered"),
    transformations=(
        definition("ratio", "distance", "pieces"),
        definition("word", "word"),
        definition("hour", "ordered"),
        definition("month", "day"),
        definition("both", "word", "pieces", "express", outputs=("size", "slow"), frame=True),
        definition("logged", "ratio"),
    ),
    code={"code/tidemill_features.py": CODE},
)
SCHEMA: dict[str, Any] = {
    "distance": pl.Float32,
    "pieces": pl.Int16,
    "word": pl.Categorical,
    "express": pl.Boolean,
    "ordered": pl.Datetime("ms"),
    "day": pl.Date,
}
VALUES = st.fixed_dictionaries(
    {
        "distance": st.none() | st.floats(-1e6, 1e6, width=32),
        "pieces": st.none() | st.integers(-300, 300),
        "word": st.none() | st.sampled_from(["Ulm", " ulm", "ÄÖ", "", "x"]),
        "express": st.none() | st.booleans(),
        "ordered": st.none()
        | st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(lambda t: t.replace(microsecond=0)),
        "day": st.none() | st.dates(date(1990, 1, 1), date(2040, 1, 1)),
    }
)


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(VALUES, min_size=1, max_size=12), several=st.booleans())
def test_a_request_gets_the_values_of_the_training_rows(rows: list[dict[str, Any]], several: bool) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    offline = transform(frame, FEATURES)
    check_row_wise(frame, FEATURES)
    inputs = declare_raw_inputs(frame, FEATURES)
    requests = [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in frame.to_dicts()
    ]
    reader, files = RowReader(inputs), {"code/tidemill_features.py": CODE.encode()}
    online = Transformer(FEATURES.transformations, files)
    batches = [requests] if several else [[request] for request in requests]
    names = [name for each in FEATURES.transformations for name in each.outputs]
    served = [
        row
        for batch in batches
        for row in online.compute(reader.read_frame(reader.read_json(batch))).select(names).to_dicts()
    ]
    assert served == offline.select(names).to_dicts()
    with PackagedModules(files).active():
        functions = row_transformations.load_functions([to_builtins(each) for each in FEATURES.transformations])
    exported = SimpleNamespace(
        _raw_types={column.name: column.type for column in inputs},
        _transformations=[to_builtins(each) for each in FEATURES.transformations],
        _functions=functions,
        _compute=row_transformations.compute_columns,
    )
    columns = {name: [row[name] for row in requests] for name in SCHEMA}
    computed = portable.PortableModel._transform(exported, columns)  # type: ignore[arg-type]
    assert {name: computed[name] for name in names} == offline.select(names).to_dict(as_series=False)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers(-5, 5), min_size=2, max_size=30).filter(lambda v: len(set(v)) > 1))
@pytest.mark.parametrize("expression", ["x - x.mean()", "x.rank('ordinal')", "x.max() + 0 * x", "x - x.sum()"])
def test_a_function_of_several_rows_is_refused(values: list[int], expression: str) -> None:
    code = {"code/tidemill_features.py": f"def other(x):\n    return {expression}\n"}
    features = FeatureSet(request=("x",), transformations=(definition("other", "x"),), code=code)
    with pytest.raises(ConfigurationError, match="'other' is not row-wise"):
        check_row_wise(pl.DataFrame({"x": values}), features)


def test_a_failure_names_the_transformation_and_the_reason() -> None:
    code = {"code/tidemill_features.py": "def inverse(x):\n    return [1 / value for value in x]\n"}
    features = FeatureSet(request=("x",), transformations=(definition("inverse", "x"),), code=code)
    with pytest.raises(DataError, match=r"'inverse' failed for row \d+ \(.* = 0\): ZeroDivisionError") as caught:
        transform(pl.DataFrame({"x": [1, 0]}), features)
    assert "inverse in features.py" in caught.value.cure


def test_the_time_zone_of_a_time_is_utc() -> None:
    code = {"code/tidemill_features.py": "def hour(t):\n    return t.dt.hour()\n"}
    features = FeatureSet(request=("t",), transformations=(definition("hour", "t"),), code=code)
    zurich = pl.Series("t", [datetime(2026, 7, 1, 12, tzinfo=UTC)]).dt.convert_time_zone("Europe/Zurich")
    assert transform(zurich.to_frame(), features)["hour"].to_list() == [12]
