"""Numbers with units: however a currency, percent or a negative is written, the column has the numbers."""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tidemill.core.dialect import Dialect
from tidemill.core.schema import ColumnType
from tidemill.data.learning import LearnedTable, learn_table
from tidemill.data.reading.given import GivenDialect
from tidemill.data.tables import parse_table
from tidemill.errors import DataError, InputError, Unreadable

NEGATIVES = ["-{u}{n}", "{u}-{n}", "({u}{n})", "{u}({n})", "-{n}{u}", "-{n} {u}", "({n} {u})", "({n}) {u}"]
POSITIVES = ["{u}{n}", "{u} {n}", "{n}{u}", "{n} {u}", "{n}\u00a0{u}", "+{u}{n}"]


def learn(content: str, options: GivenDialect = GivenDialect(), suffix: str = ".csv") -> LearnedTable:  # noqa: B008
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        path.write_text(content, encoding="utf-8")
        return learn_table(path, options)


def read(content: str, dialect: Dialect, types: dict[str, ColumnType] | None = None) -> pl.DataFrame:
    return parse_table(BytesIO(content.encode()), "later.csv", dialect=dialect, types=types)


def write(cents: int, unit: str, positive: str, negative: str, decimal: str, thousands: str) -> str:
    whole = f"{abs(cents) // 100:,}".replace(",", thousands)
    number = f"{whole}{decimal}{abs(cents) % 100:02d}"
    return (negative if cents < 0 else positive).format(u=unit, n=number)


@settings(max_examples=80, deadline=None)
@given(
    cents=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=30),
    unit=st.sampled_from(["$", "€", "£", "¥", "₩", "%", "‰", "USD", "EUR", "R$", "kr"]),
    positive=st.sampled_from(POSITIVES),
    negative=st.sampled_from(NEGATIVES),
    marks=st.sampled_from([(".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", "'")]),
)
def test_numbers_with_a_unit_are_numbers(
    cents: list[int], unit: str, positive: str, negative: str, marks: tuple[str, str]
) -> None:
    lines = [f"{write(value, unit, positive, negative, *marks)};{row}" for row, value in enumerate(cents)]
    content = "\n".join(["price;row", *lines, ""])
    options = GivenDialect(decimal="," if marks[0] == "," else ".", thousands=marks[1])
    learned = learn(content, options)
    assert learned.dialect.units == {"price": unit}
    expected = [value / 100 for value in cents]
    assert learned.frame["price"].to_list() == expected
    assert read(content, learned.dialect, {"price": "number"})["price"].to_list() == expected


@settings(max_examples=40, deadline=None)
@given(cents=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=30), form=st.sampled_from(["({n})", "{n}-"]))
def test_negative_numbers_of_accountants_are_negative(cents: list[int], form: str) -> None:
    assume(min(cents) < 0)
    lines = [f"{write(value, '', '{n}', form, '.', '')},{row}" for row, value in enumerate(cents)]
    learned = learn("\n".join(["change,row", *lines, ""]))
    assert learned.dialect.units == {"change": "()"}
    assert learned.frame["change"].to_list() == [value / 100 for value in cents]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["A1", "B-12", "(555) 123-4567", "10-20", "192.168.1.1", "Q1 2013", "1.2.3", "#5"])))
def test_codes_are_text(codes: list[str]) -> None:
    learned = learn("\n".join(["code;row", *(f"{code};{row}" for row, code in enumerate(["A1", *codes])), ""]))
    assert not learned.dialect.units
    assert learned.frame["code"].to_list() == ["A1", *codes]


def test_units_of_json_are_learned() -> None:
    rows = "\n".join(f'{{"price": "${row},250.50", "row": {row}}}' for row in range(1, 30))
    learned = learn(rows, suffix=".jsonl")
    assert (learned.dialect.units, learned.dialect.thousands) == ({"price": "$"}, ",")
    assert learned.frame["price"].to_list() == [1000 * row + 250.5 for row in range(1, 30)]


@pytest.mark.parametrize("other", ["{n}", "€{n}"])
def test_different_units_are_asked(other: str) -> None:
    unit = "%" if other == "{n}" else "$"
    values = [f"{row}{unit}" if row % 2 else other.format(n=row) for row in range(1, 40)]
    content = "\n".join(["rate,row", *(f"{value},{row}" for row, value in enumerate(values)), ""])
    with pytest.raises(DataError, match="different units") as error:
        learn(content)
    assert error.value.cure
    assert "--text rate" in error.value.cure
    assert learn(content, GivenDialect(texts=("rate",))).frame["rate"].to_list() == values


def test_other_units_are_reported_and_can_be_given() -> None:
    content = "\n".join(["weight,row", *(f"{row} kg,{row}" for row in range(40)), ""])
    learned = learn(content)
    assert learned.frame.schema["weight"] == pl.String
    assert any("--unit weight=kg" in fact for fact in learned.facts)
    assert learn(content, GivenDialect(units={"weight": "kg"})).frame["weight"].to_list() == list(range(40))
    with pytest.raises(InputError, match="no numbers with the unit g"):
        learn(content, GivenDialect(units={"weight": "g"}))


def test_a_later_file_with_another_unit_does_not_fit() -> None:
    dialect = Dialect(units={"rate": "%", "price": "$"})
    types: dict[str, ColumnType] = {"rate": "number", "price": "number"}
    with pytest.raises(Unreadable, match="has the unit %"):
        read("rate,price\n5%,$5\n0.05,$6\n", dialect, types)
    later = read("rate,price\n5%,$5\n6%,€6\n", dialect, types)
    assert later["price"].to_list() == ["5", "€6"]
    assert read("rate,price\n5%,$5\n0,6\n", dialect, types).rows() == [(5, 5), (0, 6)]
