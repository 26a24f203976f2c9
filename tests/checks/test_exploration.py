"""A first look finds what must not be learned from, and leaves alone what may."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tidemill.checks.exploration import ColumnProposal, explore_table
from tidemill.project.guessing import guess_columns

START = datetime(2013, 1, 1, tzinfo=UTC)


def table(rows: int = 1000) -> pl.DataFrame:
    random = np.random.default_rng(5)
    x = random.normal(size=rows)
    late = random.random(rows) < 1 / (1 + np.exp(-x))
    return pl.DataFrame(
        {
            "order": range(rows),
            "at": [START + timedelta(hours=place) for place in range(rows)],
            "x": x,
            "carrier": random.choice(["a", "b", "ç"], rows),
            "items": random.integers(1, 6, rows),
            "price": random.lognormal(3, 1.5, rows),
            "note": [f"the parcel {place % 50} was left with a neighbour who was at home" for place in range(rows)],
            "gaps": pl.Series(np.where(random.random(rows) < 0.3, np.nan, x)).fill_nan(None),
            "late": late,
            "verdict": np.where(late, "late", "in time"),
            "minutes": np.where(late, random.uniform(15, 90, rows), random.uniform(-20, 15, rows)),
            "landed": [START + timedelta(hours=place, minutes=90) for place in range(rows)],
            "country": ["de"] * rows,
            "nothing": pl.Series([None] * rows, dtype=pl.String),
            "seldom": [1.5] + [None] * (rows - 2) + [2.5],
            "reference": [f"r-{place}" for place in range(rows)],
            "told later": random.normal(size=rows),
            "tags": [["a", "b"][: place % 3] for place in range(rows)],
        }
    )


@pytest.fixture(scope="module")
def proposals() -> dict[str, ColumnProposal]:
    _, found = explore_table(table(), "late", time="at", key=("order",), later=("told later",))
    return {one.column: one for one in found}


LEFT_OUT = {
    "tags": "it contains lists or records",
    "verdict": "predicts the label almost alone",
    "minutes": "predicts the label almost alone",
    "landed": "is after the event time in 100%",
    "country": "only one value",
    "nothing": "null in every row",
    "seldom": "missing in 100%",
    "reference": "a different value",
    "told later": "becomes known later",
}


@pytest.mark.parametrize(("column", "why"), LEFT_OUT.items(), ids=LEFT_OUT)
def test_what_must_not_be_learned_from_is_left_out_and_why(
    proposals: dict[str, ColumnProposal], column: str, why: str
) -> None:
    assert proposals[column].exclude
    assert why in proposals[column].reason


PREPARED = {
    "x": "unchanged; for linear models scaled",
    "carrier": "categories: a vocabulary of 3",
    "items": "unchanged, or categories",
    "price": "logarithm",
    "note": "embed them",
    "gaps": "missing: trees accept gaps",
}


@pytest.mark.parametrize(("column", "how"), PREPARED.items(), ids=PREPARED)
def test_what_may_be_learned_from_is_prepared(proposals: dict[str, ColumnProposal], column: str, how: str) -> None:
    assert not proposals[column].exclude
    assert how in proposals[column].preparation


def test_key_label_and_event_time_have_their_roles(proposals: dict[str, ColumnProposal]) -> None:
    assert [proposals[name].role for name in ("order", "at", "late", "x")] == ["key", "event time", "label", "input"]
    assert proposals["x"].telling is not None
    assert 0 < proposals["x"].telling < 0.5


@pytest.mark.parametrize("frame", [table(3).head(1), table(3).clear(), pl.DataFrame(), pl.DataFrame({"l": [[1], [2]]})])
def test_tables_of_nearly_nothing_are_looked_at(frame: pl.DataFrame) -> None:
    profile, found = explore_table(frame, "late" if "late" in frame.columns else "")
    assert len(profile.columns) == len(found) == frame.width


def test_a_profile_and_a_new_project_agree_on_what_identifies_rows() -> None:
    rows = 300
    frame = pl.DataFrame(
        {
            "late": [number % 2 for number in range(rows)],
            "order_id": [f"o{number}" for number in range(rows)],
            "counter": range(rows),
            "note": [f"text {number}" for number in range(rows)],
            "price_in_cents": [number * number for number in range(rows)],
            "customer_number": range(7, 7 * rows + 7, 7),
        }
    )
    guessed = guess_columns(frame, "late")
    _, proposals = explore_table(frame, "late", key=guessed.key)
    left_out = {proposal.column for proposal in proposals if proposal.exclude}
    assert guessed.key == ("order_id",)
    assert left_out == set(guessed.excluded) == {"counter", "note", "customer_number"}
    assert "price_in_cents" in guessed.inputs
