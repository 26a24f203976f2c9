"""The roles of columns, guessed from their names and values."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tidemill.project.guessing import guess_columns

ROWS = 300
TIMES = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=row) for row in range(ROWS)]


def table(**columns: object) -> pl.DataFrame:
    numbers = range(ROWS)
    return pl.DataFrame(columns | {"x": [row * 7 % 11 for row in numbers], "y": [row % 2 for row in numbers]})


@pytest.mark.parametrize(
    "name", ["id", "ID", "order_id", "orderId", "userid", "PassengerId", "bidID", "uuid", "key", "no"]
)
def test_a_column_with_the_name_of_a_key_is_the_key(name: str) -> None:
    assert guess_columns(table(**{name: list(range(ROWS))}), "y").key == (name,)


@pytest.mark.parametrize("name", ["paid", "amount_paid", "amountPaid", "PAID", "bid", "highest-bid", "humid", "grid"])
def test_a_word_that_ends_in_id_is_no_key(name: str) -> None:
    guessed = guess_columns(table(**{name: [row * row * 13 for row in range(ROWS)]}), "y")
    assert guessed.key == ()
    assert name in guessed.inputs


def test_the_event_time_is_the_first_column_of_times_with_few_nulls() -> None:
    nothing = pl.Series("gone", [None] * ROWS, dtype=pl.Datetime("us", "UTC"))
    few = [time if row % 20 == 0 else None for row, time in enumerate(TIMES)]
    assert guess_columns(table(gone=nothing, few=few, made=TIMES), "y").time == "made"
    assert guess_columns(table(gone=nothing), "y").time is None
    most = [None if row % 20 == 0 else time for row, time in enumerate(TIMES)]
    assert guess_columns(table(ordered=most, loaded=TIMES), "y").time == "ordered"
    assert guess_columns(table(few=few, gone=nothing), "y").time == "few"
