"""The labelled rows that a learner has not learned: each appears once, whatever the order and number of its labels."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.clock import uuid7
from tidemill.journal.files import FileJournal
from tidemill.monitoring.learned import LearnedRows, add_learned, read_unlearned

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def write_predictions(journal: FileJournal, rows: int) -> list[str]:
    """Predictions of one release, a minute apart; every third row has a key."""
    ids = [uuid7(BEGIN + index * MINUTE, index) for index in range(rows)]
    journal.append(
        "predictions/m",
        pl.DataFrame(
            {
                "known_at": [BEGIN + index * MINUTE for index in range(rows)],
                "id": ids,
                "role": ["champion"] * rows,
                "key": [f"k{index}" if index % 3 == 0 else "" for index in range(rows)],
                "time": [BEGIN + index * MINUTE for index in range(rows)],
            },
            schema_overrides={"known_at": pl.Datetime("us", "UTC"), "time": pl.Datetime("us", "UTC")},
        ),
    )
    return ids


def write_label(journal: FileJournal, identifier: str, index: int, known_at: datetime, value: str) -> None:
    by_key = identifier == ""
    journal.append(
        "labels/m",
        pl.DataFrame(
            {
                "known_at": [known_at],
                "id": [identifier],
                "key": [f"k{index}" if by_key else ""],
                "time": [BEGIN + index * MINUTE if by_key else None],
                "value": [value],
            },
            schema_overrides={"known_at": pl.Datetime("us", "UTC"), "time": pl.Datetime("us", "UTC")},
        ),
    )


LABELS = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 40_000), st.booleans(), st.sampled_from(["yes", "no"])), max_size=40
)


@settings(max_examples=25, deadline=None)
@given(labels=LABELS, looks=st.lists(st.integers(0, 40_000), max_size=4))
def test_no_row_is_learned_twice_and_none_is_lost(
    tmp_path_factory: object, labels: list[tuple[int, int, bool, str]], looks: list[int]
) -> None:
    """Labels arrive in the order of their times here, so every row is learned exactly once."""
    folder: Path = tmp_path_factory.mktemp("journal")  # type: ignore[attr-defined]
    journal = FileJournal(folder)
    ids = write_predictions(journal, 12)
    for row, minutes, by_key, value in labels:
        named = "" if by_key and row % 3 == 0 else ids[row]
        write_label(journal, named, row, BEGIN + timedelta(hours=1) + minutes * MINUTE, value)
    learned, seen = LearnedRows(), list[str]()
    for minutes in [*sorted(looks), 50_000]:
        new = read_unlearned(journal, "m", learned, BEGIN + timedelta(hours=1) + minutes * MINUTE)
        if new.height:
            seen += new["id"].to_list()
            learned = add_learned(learned, new)
    assert sorted(seen) == sorted({ids[row] for row, *_ in labels})


def test_the_newest_label_counts_and_the_first_one_orders(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    ids = write_predictions(journal, 3)
    hour = BEGIN + timedelta(hours=1)
    write_label(journal, ids[1], 1, hour, "no")
    write_label(journal, ids[2], 2, hour + MINUTE, "no")
    write_label(journal, ids[1], 1, hour + 2 * MINUTE, "yes")
    rows = read_unlearned(journal, "m", LearnedRows(), hour + timedelta(hours=1))
    assert rows.select("id", "truth").rows() == [(ids[1], "yes"), (ids[2], "no")]
    assert rows["first_known_at"].to_list() == [hour, hour + MINUTE]


def test_rows_of_the_same_key_and_time_are_one(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    write_predictions(journal, 1)
    ids = write_predictions(journal, 1)
    write_label(journal, "", 0, BEGIN + timedelta(hours=1), "yes")
    rows = read_unlearned(journal, "m", LearnedRows(), BEGIN + timedelta(hours=2))
    assert rows["id"].to_list() == ids
    after = add_learned(LearnedRows(), rows)
    assert read_unlearned(journal, "m", after, BEGIN + timedelta(hours=2)).is_empty()


def test_only_the_newest_seven_days_are_kept(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    ids = write_predictions(journal, 2)
    write_label(journal, ids[0], 0, BEGIN + timedelta(hours=1), "yes")
    write_label(journal, ids[1], 1, BEGIN + timedelta(days=9), "yes")
    learned = add_learned(LearnedRows(), read_unlearned(journal, "m", LearnedRows(), BEGIN + timedelta(days=10)))
    assert len(learned.digests) == 16
    assert learned.since == BEGIN + timedelta(days=2)
    assert read_unlearned(journal, "m", learned, BEGIN + timedelta(days=10)).is_empty()
