"""Labels match predictions by id or by key and time; the latest label is used, and mismatches are counted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.journal.files import FileJournal
from tidemill.labels.feedback import match

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
UTC_TIME = pl.Datetime("us", "UTC")
LABEL: list[tuple[str, Any]] = [
    ("known_at", UTC_TIME),
    ("id", pl.String),
    ("key", pl.String),
    ("time", UTC_TIME),
    ("value", pl.String),
]


def hour(count: int) -> datetime:
    return NOON + timedelta(hours=count)


def predictions(*rows: tuple[str, str, int]) -> pl.DataFrame:
    """Create predictions from (id, key, hour of the event)."""
    schema: list[tuple[str, Any]] = [("id", pl.String), ("key", pl.String), ("time", UTC_TIME)]
    return pl.DataFrame([(i, k, hour(t)) for i, k, t in rows], schema=schema, orient="row")


def labels(*rows: tuple[int, str, str, int | None, str]) -> pl.DataFrame:
    """Create labels from (hour when known, id, key, hour of the event, value)."""
    shaped = [(hour(known), i, k, None if t is None else hour(t), value) for known, i, k, t, value in rows]
    return pl.DataFrame(shaped, schema=LABEL, orient="row")


SERVED = predictions(("p1", "JFK|1", 0), ("p2", "JFK|2", 0), ("p3", "JFK|1", 1))


def truths(*rows: tuple[int, str, str, int | None, str]) -> list[str | None]:
    return match(SERVED, labels(*rows)).rows["truth"].to_list()


def test_labels_match_by_id_and_by_key_and_time() -> None:
    assert truths((1, "p1", "", None, "late")) == ["late", None, None]
    assert truths((1, "", "JFK|1", 1, "late")) == [None, None, "late"]
    assert truths((1, "", "JFK|1", 5, "late"), (1, "p9", "", None, "late")) == [None, None, None]


def test_the_latest_label_is_used_in_any_order_of_arrival() -> None:
    early, late = (1, "p1", "", None, "late"), (2, "p1", "", None, "on time")
    assert truths(early, late) == truths(late, early) == ["on time", None, None]
    found = match(SERVED, labels(late, early))
    assert found.rows["truth_known_at"].to_list() == [hour(2), None, None]
    assert (found.contradictions, found.unknown) == (1, 0)


def test_the_latest_label_is_used_whether_by_key_or_by_id() -> None:
    by_id, by_key = (1, "p1", "", None, "late"), (2, "", "JFK|1", 0, "on time")
    assert truths(by_id, by_key) == ["on time", None, None]
    assert truths((3, *by_id[1:]), by_key) == ["late", None, None]


def test_a_repeated_label_is_not_a_contradiction() -> None:
    found = match(SERVED, labels((1, "p1", "", None, "late"), (2, "p1", "", None, "late"), (1, "", "JFK|2", 0, "x")))
    assert (found.contradictions, found.unknown) == (0, 0)


def test_labels_without_a_prediction_are_counted() -> None:
    found = match(SERVED, labels((1, "p9", "", None, "late"), (1, "", "EWR|1", 0, "late"), (1, "p1", "", None, "x")))
    assert found.unknown == 2


def test_shadows_of_one_id_have_the_same_truth() -> None:
    served = pl.concat([SERVED[:1], SERVED[:1]]).with_columns(release=pl.Series(["late/1", "late/2"]))
    assert match(served, labels((1, "p1", "", None, "late"))).rows["truth"].to_list() == ["late", "late"]


def test_no_predictions_or_no_labels() -> None:
    nothing = match(SERVED, pl.DataFrame())
    assert nothing.rows["truth"].null_count() == 3
    assert nothing.rows["truth_known_at"].dtype == UTC_TIME
    assert match(pl.DataFrame(), labels((1, "p1", "", None, "late"))).unknown == 1
    assert match(SERVED, labels()).rows.schema["truth"] == pl.String


def test_labels_of_the_journal_match(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.append("labels/late", labels((1, "p1", "", None, "late")))
    journal.append("labels/late", labels((2, "", "JFK|2", 0, "on time")))
    assert match(SERVED, journal.read("labels/late")).rows["truth"].to_list() == ["late", "on time", None]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50),
            st.sampled_from(["p1", "p2", "p9", ""]),
            st.sampled_from(["JFK|1", "JFK|2", "EWR|1"]),
            st.integers(0, 2),
            st.sampled_from(["late", "on time"]),
        ),
        max_size=12,
        unique_by=lambda row: row[0],
    )
)
@settings(deadline=None)
def test_matching_equals_a_plain_loop(rows: list[tuple[int, str, str, int, str]]) -> None:
    given_labels = [(k, i, "" if i else key, None if i else t, v) for k, i, key, t, v in rows]
    wanted = []
    for identifier, key, time in (("p1", "JFK|1", 0), ("p2", "JFK|2", 0), ("p3", "JFK|1", 1)):
        own = [r for r in given_labels if r[1] == identifier or (not r[1] and (r[2], r[3]) == (key, time))]
        wanted.append(max(own)[4] if own else None)
    assert truths(*given_labels) == wanted
    assert match(SERVED, labels(*given_labels)).rows.drop("truth", "truth_known_at").equals(SERVED)


def test_rows_without_a_key_do_not_share_a_label() -> None:
    served = predictions(("p1", "", 0), ("p2", "", 0), ("p3", "", 0))
    by_id = [(1, "p1", "", None, "late"), (1, "p3", "", None, "on time")]
    found = match(served, labels(*by_id, (2, "", "", 0, "lost"), (2, "", "JFK|1", None, "lost")))
    assert found.rows["truth"].to_list() == ["late", None, "on time"]
    assert (found.rows.height, found.contradictions, found.unknown) == (3, 0, 2)


@given(
    st.lists(st.tuples(st.sampled_from(["", "a"]), st.integers(0, 1)), max_size=8),
    st.lists(st.tuples(st.sampled_from(["p0", "p1", ""]), st.sampled_from(["", "a"]), st.integers(0, 1)), max_size=8),
)
@settings(deadline=None)
def test_n_predictions_have_n_answers(rows: list[tuple[str, int]], sent: list[tuple[str, str, int]]) -> None:
    served = predictions(*((f"p{index}", key, hour_) for index, (key, hour_) in enumerate(rows)))
    found = match(served, labels(*((index, i, key, at, "late") for index, (i, key, at) in enumerate(sent))))
    assert found.rows.height == served.height
    if served.height and sent:
        assert found.rows["id"].equals(served["id"])
