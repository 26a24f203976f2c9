"""The file journal: compaction, crashes, a full disk; what all journals promise is in tests/conformance."""

import resource
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.processes import in_child
from tidemill.journal.files import FileJournal
from tidemill.testing.journal import START, rows

HOUR = timedelta(hours=1)


def filled(folder: Path, segments: int = 10) -> FileJournal:
    journal = FileJournal(folder)
    for place in range(segments):
        journal.append("labels/late", rows(START + place * HOUR, START + place * HOUR, value=[place, -place]))
    return journal


def test_compaction_keeps_every_row(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    before = journal.read("labels/late")
    window = journal.read("labels/late", START + 2 * HOUR, START + 4 * HOUR)
    journal.tidy("labels/late", keep=20)
    assert len(list(tmp_path.rglob("*.arrow"))) == 10
    journal.tidy("labels/late", keep=5)
    assert len(list(tmp_path.rglob("*.arrow"))) == 1
    assert journal.read("labels/late").sort("known_at", "value").equals(before.sort("known_at", "value"))
    assert journal.read("labels/late", START + 2 * HOUR, START + 4 * HOUR).height == window.height == 4
    journal.tidy("labels/nothing")
    assert [file.name for file in (tmp_path / "labels" / "late").glob(".*.replaces")] == []


def test_columns_that_came_later_survive_compaction(tmp_path: Path) -> None:
    journal = filled(tmp_path, 2)
    journal.append("labels/late", rows(START + 9 * HOUR, value=[9.5], note=["x"]))
    journal.tidy("labels/late", keep=1)
    assert journal.read("labels/late").select("value", "note").rows()[-1] == (9.5, "x")
    assert journal.read("labels/late")["note"].null_count() == 4


def forget(journal: FileJournal, kind: str, before: datetime) -> int:
    """Drop the rows that became known before a moment."""
    return journal.erase(kind, lambda rows: rows["known_at"] < before, until=before)


def values_in(journal: FileJournal) -> list[int]:
    found = journal.read("labels/late")
    return sorted(found["value"]) if found.width else []


def killed(folder: Path, point: str, when: str, act: str) -> None:
    """Run `act` on the journal in a process that dies at the first call of a method of Path."""
    in_child(
        f"""
        from datetime import UTC, datetime, timedelta
        from pathlib import Path
        from tidemill.journal.files import FileJournal
        from tidemill.testing.journal import START
        real = Path.{point}
        def killing(*arguments, **options):
            if {when!r} == "after":
                real(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        Path.{point} = killing
        journal = FileJournal(Path({str(folder)!r}))
        {act}
        """,
        check=False,
    )


POINTS = [("write_text", "after"), ("replace", "before"), ("replace", "after"), ("unlink", "after")]


@pytest.mark.parametrize(("point", "when"), POINTS)
def test_a_compaction_killed_at_any_point_neither_loses_nor_doubles_a_row(
    tmp_path: Path, point: str, when: str
) -> None:
    before = filled(tmp_path).read("labels/late").sort("known_at", "value")
    killed(tmp_path, point, when, 'journal.tidy("labels/late", keep=1)')
    journal = FileJournal(tmp_path)
    assert journal.read("labels/late").sort("known_at", "value").equals(before)
    journal.tidy("labels/late", keep=1)
    assert journal.read("labels/late").sort("known_at", "value").equals(before)
    assert len(list(tmp_path.rglob("*.arrow"))) == 1


@pytest.mark.parametrize(("point", "when", "hours"), [(*POINTS[0], 4), (*POINTS[2], 4), (*POINTS[2], 99)])
def test_forgetting_killed_at_any_point_leaves_all_rows_or_those_that_stay(
    tmp_path: Path, point: str, when: str, hours: int
) -> None:
    before = filled(tmp_path).read("labels/late")
    left = before.filter(pl.col("known_at") >= START + hours * HOUR)
    before_then = f"START + timedelta(hours={hours})"
    act = f'journal.erase("labels/late", lambda rows: rows["known_at"] < {before_then}, until={before_then})'
    killed(tmp_path, point, when, act)
    journal = FileJournal(tmp_path)
    assert values_in(journal) == sorted((before if point == "write_text" else left)["value"])
    forget(journal, "labels/late", START + hours * HOUR)
    assert values_in(journal) == sorted(left["value"])
    assert journal.kinds() == (["labels/late"] if left.height else [])
    assert [file for file in tmp_path.rglob(".*.replaces") if file.is_file()] == []


def test_what_is_old_is_forgotten_to_the_microsecond(tmp_path: Path) -> None:
    journal = filled(tmp_path, 0)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    journal.append("labels/late", rows(START, START + HOUR, START + 2 * HOUR, value=[0, 1, 2]))
    journal.append("labels/late", rows(epoch, value=[-1]))
    assert forget(journal, "labels/late", epoch) == 0
    assert forget(journal, "labels/late", START + HOUR) == 2
    assert journal.read("labels/late")["value"].to_list() == [1, 2]
    assert forget(journal, "labels/late", START + HOUR) == 0
    assert forget(journal, "labels/nothing", START) == 0


def test_rows_are_erased_wherever_they_are(tmp_path: Path) -> None:
    journal = filled(tmp_path)

    def odd(found: pl.DataFrame) -> pl.Series:
        return found["value"] % 2 != 0

    assert journal.erase("labels/late", odd, dry_run=True) == 10
    assert journal.read("labels/late").height == 20
    assert journal.erase("labels/late", odd) == 10
    assert sorted(journal.read("labels/late")["value"]) == [-8, -6, -4, -2, 0, 0, 2, 4, 6, 8]
    assert journal.erase("labels/late", odd) == 0


def test_of_erased_rows_nothing_is_left_in_the_files(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    names: list[object] = [f"Ann the {place}th, a long name that is kept apart in memory" for place in range(4)]
    served = pl.DataFrame({"name": names}).to_struct("features")
    journal.append("predictions/late", rows(*[START] * 4, name=names).with_columns(served))
    journal.erase("predictions/late", lambda found: found["name"] == names[2])
    content = b"".join(file.read_bytes() for file in tmp_path.rglob("*.arrow"))
    assert b"Ann the" in content
    assert b"Ann the 2th" not in content
    journal.append("predictions/late", rows(*[START] * 4, name=names)[:1])
    assert b"Ann the 2th" not in b"".join(file.read_bytes() for file in tmp_path.rglob("*.arrow"))


def test_a_large_segment_is_not_joined_again(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    (large,) = (max(tmp_path.rglob("*.arrow")),)
    with large.open("r+b") as file:
        file.truncate(5 << 20)
    journal.tidy("labels/late", keep=1)
    assert len(list(tmp_path.rglob("*.arrow"))) == 2
    assert large.exists()


def test_readers_beside_a_compaction_see_every_row_once(tmp_path: Path) -> None:
    journal = filled(tmp_path, 40)
    done = threading.Event()

    def compact() -> None:
        for place in range(20):
            journal.append("labels/late", rows(START - HOUR, value=[100 + place]))
            FileJournal(tmp_path).tidy("labels/late", keep=1)
        done.set()

    thread = threading.Thread(target=compact)
    thread.start()
    while not done.is_set():
        found = journal.read("labels/late", since=START - timedelta(seconds=1))
        assert found.height == 80
    thread.join()
    assert journal.read("labels/late").height == 100


def test_readers_beside_an_erasure_see_all_of_it_or_nothing(tmp_path: Path) -> None:
    journal = filled(tmp_path, 40)
    erasing = threading.Thread(target=lambda: FileJournal(tmp_path).erase("labels/late", lambda f: f["value"] < 0))
    erasing.start()
    seen = set()
    while erasing.is_alive():
        seen.add(journal.read("labels/late").height)
    erasing.join()
    seen.add(journal.read("labels/late").height)
    assert seen <= {80, 41}
    assert journal.read("labels/late").height == 41


def test_only_the_segments_of_a_span_are_read(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    for file in tmp_path.rglob("*.arrow"):
        if str(int((START + 3 * HOUR).timestamp()) * 1_000_000) not in file.name:
            file.write_bytes(b"not read")
    found = journal.read("labels/late", START + 2 * HOUR, START + 3 * HOUR)
    assert found["value"].to_list() == [3, -3]


def test_kinds_are_those_with_rows(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.append("predictions/late", pl.DataFrame())
    assert journal.kinds() == ["labels/late"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    reported = in_child(
        f"""
        from pathlib import Path
        import random
        from tidemill.journal.files import FileJournal
        from tidemill.testing.journal import START, rows
        journal = FileJournal(Path({str(tmp_path)!r}))
        journal.append("labels/late", rows(START, value=[1]))
        many = [random.random() for _ in range(100_000)]
        explain(lambda: journal.append("labels/late", rows(*[START] * 100_000, value=many)))
        print(journal.read("labels/late").height)
        """,
        limits={resource.RLIMIT_FSIZE: 200_000},
    )
    assert reported.startswith("TidemillError: 100000 rows could not be written to the journal")
    assert "free space" in reported
    assert reported.endswith("\n1\n")
    assert sorted(file.suffix for file in tmp_path.rglob("*") if file.is_file()) == ["", "", ".arrow"]


def test_a_read_only_journal_is_reported_and_still_read(tmp_path: Path) -> None:
    filled(tmp_path)
    reported = in_child(
        f"""
        from pathlib import Path
        from tidemill.journal.files import FileJournal
        from tidemill.testing.journal import START, rows
        journal = FileJournal(Path({str(tmp_path)!r}))
        explain(lambda: journal.append("labels/late", rows(START, value=[1])))
        print(journal.read("labels/late").height)
        """,
        read_only=tmp_path,
    )
    assert "could not be written" in reported
    assert reported.endswith("20\n")
