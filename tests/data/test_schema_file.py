"""Schemas as files: what is written is read, and what does not fit is explained."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.core.schema import Column, Schema
from tidemill.data.schema_file import read_schema, write_schema
from tidemill.errors import ConfigurationError

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
columns = st.builds(
    Column,
    name=st.text(min_size=1, max_size=20),
    type=st.sampled_from(["boolean", "integer", "number", "text", "time", "date"]),
    required=st.booleans(),
    missing=st.floats(0, 1),
    low=numbers,
    high=numbers,
    domain=st.none() | st.lists(st.text(), min_size=1, max_size=3).map(tuple),
    about=st.text(),
).filter(lambda column: column.low is None or column.high is None or column.low <= column.high)
schemas = st.builds(
    Schema,
    source=st.text(),
    columns=st.lists(columns, max_size=4, unique_by=lambda column: column.name).map(tuple),
    key=st.lists(st.text().map("_tidemill_{}".format), max_size=2).map(tuple),
    extra_columns=st.sampled_from(["stop", "ignore"]),
    version=st.integers(1, 99),
)


@given(schemas)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_what_is_written_is_read(tmp_path: Path, schema: Schema) -> None:
    write_schema(schema, tmp_path / "schemas" / "rows.toml")
    assert read_schema(tmp_path / "schemas" / "rows.toml") == schema


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source = = 3", "rows.toml: .*line 1"),
        ('source = "rows"\n[columns.x]\ntype = "float"\n', "rows.toml: .*'float'"),
        ('source = "rows"\n[columns.x]\nlow = 1\n', "rows.toml: .*`type`"),
        ("[columns.x]\ntype = 'text'\n", "rows.toml: .*`source`"),
        ('source = "rows"\n[columns.x]\ntype = "text"\nlwo = 3\n', "rows.toml: .*`lwo`"),
        ('source = "rows"\ncolumns = 3\n', "rows.toml: "),
        ('source = "rows"\n[columns]\nx = "text"\n', "rows.toml: "),
        ('source = "rows"\n[columns.x]\ntype = "number"\nlow = 3\nhigh = 1\n', "'x' has low = 3 and high = 1"),
        ('source = "rows"\n[columns.x]\ntype = "number"\nmissing = 5\n', "'x' has missing = 5"),
        ('source = "rows"\n[columns.x]\ntype = "text"\ndomain = []\n', "'x' has an empty domain"),
        ('source = "rows"\nkey = ["y"]\n[columns.x]\ntype = "text"\n', "key contains 'y', which is not a column"),
        ('source = "rows"\nahead = "soon"\n[columns.x]\ntype = "text"\n', "soon"),
    ],
)
def test_what_does_not_fit_is_reported(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        read_schema(tmp_path / "rows.toml")
    assert raised.value.cure


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_schema(tmp_path / "rows.toml")
