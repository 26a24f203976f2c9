"""Tables and queries as sources: together, the blocks of a growing column contain each row that has a value, once."""

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import ConfigurationError, DataError

NOW = datetime(2100, 1, 1, tzinfo=UTC)


def write_values(folder: Path, kind: str, values: Sequence[Any]) -> None:
    """Append one row for each value, numbered in `row`."""
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS trips (row INTEGER PRIMARY KEY, value {kind})")
        connection.executemany("INSERT INTO trips (value) VALUES (?)", [(value,) for value in values])


def open_source(folder: Path, **source: Any) -> FileSources:
    settings = {"path": "sqlite:///shop.db", **({} if "query" in source else {"table": "trips"}), **source}
    return FileSources(folder, {"rows": Source(**settings)})


def read_rows(sources: FileSources) -> list[int]:
    """Return the row numbers of all batches."""
    batches = [sources.raw(batch) for batch in sources.batches("rows", NOW)]
    return sorted(number for rows in batches for number in rows["row"].to_list())


NUMBERS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-30_000, 30_000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-3, 3).map(lambda number: number * 10_000.0),
)
TIMES = st.one_of(
    st.none(),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(str),
    st.dates().map(str),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)).map(lambda time: f"{time.isoformat()}+02:00"),
)


@settings(max_examples=20, deadline=None)
@given(
    table=st.one_of(
        st.tuples(
            st.sampled_from(["INTEGER", "REAL", "NUMERIC"]),
            st.lists(NUMBERS, max_size=5),
            st.lists(NUMBERS, max_size=3),
        ),
        st.tuples(st.just("TEXT"), st.lists(TIMES, max_size=5), st.lists(TIMES, max_size=3)),
        st.tuples(
            st.just(""), st.lists(NUMBERS | TIMES, max_size=5), st.lists(NUMBERS | TIMES | st.text(), max_size=3)
        ),
    )
)
def test_blocks_contain_every_row_with_a_value_once_or_the_error_names_the_column(
    table: tuple[str, list[Any], list[Any]],
) -> None:
    kind, *parts = table
    with TemporaryDirectory() as folder:
        sources = open_source(Path(folder), growing="value")
        for values in parts:
            write_values(Path(folder), kind, values)
            with closing(sqlite3.connect(Path(folder) / "shop.db")) as connection:
                stored = connection.execute("SELECT row FROM trips WHERE value IS NOT NULL ORDER BY row").fetchall()
            expected, problem = [row for (row,) in stored], ""
            try:
                rows = read_rows(sources)
            except DataError as error:
                rows, problem = expected, error.problem
            assert rows == expected
            assert not problem or (kind == "" and "'value'" in problem)


@pytest.mark.parametrize("kind", ["double precision", "numeric(30, 4)", "real", "bigint"])
def test_a_growing_column_of_postgresql_has_any_type_of_numbers(tmp_path: Path, postgres_url: str, kind: str) -> None:
    values = [0, 1, 9_999, 10_000, -1, -10_000, 123_456_789, None]
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE trips (row serial, value {kind})"))
        connection.execute(text("INSERT INTO trips (value) VALUES (:value)"), [{"value": value} for value in values])
    engine.dispose()
    sources = open_source(tmp_path, path=postgres_url, growing="value")
    assert read_rows(sources) == list(range(1, 8))
    assert len(sources.batches("rows", NOW)) == 4


def test_rows_without_a_growing_value_are_reported_and_read_when_they_have_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_values(tmp_path, "TEXT", ["2024-05-01 10:00:00", None, None])
    sources = open_source(tmp_path, growing="value")
    with caplog.at_level(logging.WARNING, "tidemill"):
        assert read_rows(sources) == [1]
        assert read_rows(sources) == [1]
    (record,) = caplog.records
    assert "source 'rows': the growing column 'value' is null in 2 of its rows" in record.getMessage()
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("UPDATE trips SET value = '2024-05-02 09:00:00' WHERE row > 1")
    assert read_rows(sources) == [1, 2, 3]
    assert read_rows(open_source(tmp_path)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["2024-05-01", "o17"],
            "cannot grow by 'value': 1 of its values are neither a finite number nor a time, such as",
        ),
        ([1.5, float("inf")], "cannot grow by 'value': 1 of its values"),
        ([1, "o17"], "2 rows in the block 0-10000 of its growing column 'value', but only 1 can be read"),
    ],
    ids=["text", "infinite", "mixed"],
)
def test_values_without_a_block_are_an_error(tmp_path: Path, values: list[Any], message: str) -> None:
    write_values(tmp_path, "", values)
    with pytest.raises(DataError) as error:
        read_rows(open_source(tmp_path, growing="value"))
    assert message in error.value.problem
    assert "remove `growing`" in error.value.cure


QUERIES = [
    "SELECT * FROM trips",
    "SELECT * FROM trips ;\n",
    "SELECT * FROM trips -- all of them",
    "SELECT * FROM trips; -- all of them;\n /* really ; */ ;",
    "-- trips; of the shop\nWITH chosen AS (SELECT * FROM trips) SELECT * FROM chosen ORDER BY value;",
    "SELECT row, value, '; -- no comment' AS \"a;b\", 'it''s /*' AS c FROM trips -- the end",
]


@pytest.mark.parametrize("growing", ["", "value"])
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_may_have_comments_and_semicolons(tmp_path: Path, query: str, growing: str) -> None:
    write_values(tmp_path, "INTEGER", [1, 10_000])
    assert read_rows(open_source(tmp_path, query=query, growing=growing)) == [1, 2]


def test_a_second_statement_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="more than one statement"):
        open_source(tmp_path, query="SELECT 1; DELETE FROM trips").batches("rows", NOW)
