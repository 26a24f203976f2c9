"""Conformance suite of journals: atomic appends, and reads of exact time ranges."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.core.resources import Journal
from tidemill.errors import DataError
from tidemill.testing.processes import run_in_processes

START = datetime(2013, 3, 1, tzinfo=UTC)
_SEGMENT = 200

moments = (
    st.datetimes(min_value=datetime(2013, 1, 1), max_value=datetime(2040, 1, 1))
    | st.datetimes(min_value=datetime(1969, 12, 31), max_value=datetime(1970, 1, 2))
).map(lambda moment: moment.replace(tzinfo=UTC))


def rows(*known_at: datetime, **columns: list[object]) -> pl.DataFrame:
    """Return journal rows with these times in `known_at`."""
    known = pl.Series("known_at", list(known_at), dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame([known]).with_columns(pl.Series(name, values) for name, values in columns.items())


class JournalSuite:
    """Subclass it and define `opener`, a picklable function that opens the same journal, and `elsewhere`.

    ::

        class TestMyJournal(JournalSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyJournal, tmp_path / "journal")

            @pytest.fixture
            def elsewhere(self, tmp_path):
                return MyJournal(tmp_path / "elsewhere")
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Journal]:
        """Return a function that opens the same journal, in any process; the journal is empty at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def elsewhere(self) -> Journal:
        """Another journal, which is empty."""
        raise NotImplementedError("define the fixture `elsewhere`")

    @pytest.fixture
    def journal(self, opener: Callable[[], Journal]) -> Journal:
        return opener()

    def test_a_kind_without_rows_is_empty(self, journal: Journal) -> None:
        journal.append("labels/late", rows())
        assert journal.read("labels/late").is_empty()

    def test_rows_are_sorted_by_known_at(self, journal: Journal) -> None:
        later, earlier = START + timedelta(hours=2), START + timedelta(hours=1)
        journal.append("labels/late", rows(later, START, value=[3, 1]))
        journal.append("labels/late", rows(earlier, later, value=[2, 4]))
        assert journal.read("labels/late")["value"].to_list() == [1, 2, 3, 4]

    def test_kinds_are_separate(self, journal: Journal) -> None:
        journal.append("labels/late", rows(START, value=[1]))
        journal.append("labels/late2", rows(START, value=[2]))
        journal.append("predictions/late", rows(START, value=[3]))
        assert journal.read("labels/late")["value"].to_list() == [1]

    def test_appended_rows_are_visible_after_reopening(self, journal: Journal, opener: Callable[[], Journal]) -> None:
        journal.append("labels/late", rows(START, value=[1]))
        assert opener().read("labels/late")["value"].to_list() == [1]

    @given(
        segments=st.lists(st.lists(moments, min_size=1, max_size=4), min_size=1, max_size=4),
        nudge=st.sampled_from([-1, 0, 1]),
        data=st.data(),
    )
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    def test_time_range_returns_exactly_its_rows(
        self, journal: Journal, segments: list[list[datetime]], nudge: int, data: st.DataObject
    ) -> None:
        """`since` is exclusive and `until` is inclusive, to the microsecond."""
        kind = f"spans/{os.urandom(8).hex()}"
        for segment in segments:
            journal.append(kind, rows(*segment))
        known = [moment for segment in segments for moment in segment]
        edges = st.sampled_from(known).map(lambda moment: moment + timedelta(microseconds=nudge))
        since, until = data.draw(st.none() | edges), data.draw(st.none() | edges)
        wanted = [m for m in sorted(known) if (since is None or m > since) and (until is None or m <= until)]
        found = journal.read(kind, since, until)
        assert (found["known_at"].to_list() if found.width else []) == wanted

    def test_a_new_column_is_null_in_older_rows(self, journal: Journal) -> None:
        journal.append("labels/late", rows(START, value=[1]))
        journal.append("labels/late", rows(START + timedelta(hours=1), value=[2], note=["x"]))
        found = journal.read("labels/late")
        assert found.select("value", "note").rows() == [(1, None), (2, "x")]

    def test_wider_type_stores_old_and_new_values(self, journal: Journal) -> None:
        journal.append("labels/late", rows(START, value=[1]))
        journal.append("labels/late", rows(START + timedelta(hours=1), value=[2.5]))
        assert journal.read("labels/late")["value"].to_list() == [1.0, 2.5]

    def test_rows_without_known_at_are_an_error(self, journal: Journal) -> None:
        naive = pl.DataFrame({"known_at": [datetime(2013, 3, 1)]})
        for frame in (pl.DataFrame({"value": [1]}), naive, rows(START, None, value=[1, 2])):  # type: ignore[arg-type]
            with pytest.raises(DataError, match="known_at") as refused:
                journal.append("labels/late", frame)
            assert refused.value.cure
        assert journal.read("labels/late").is_empty()

    def test_the_kinds_that_have_rows_are_listed(self, journal: Journal) -> None:
        assert journal.kinds() == []
        journal.append("predictions/late", rows(START, value=[1]))
        journal.append("labels/late", rows(START, value=[1]))
        assert journal.kinds() == ["labels/late", "predictions/late"]

    def test_erase_deletes_only_matching_rows(self, journal: Journal) -> None:
        hours = [START + timedelta(hours=hour) for hour in range(4)]
        for moment, value in zip(hours, range(4), strict=True):
            journal.append("labels/late", rows(moment, moment, value=[value, -value]))
        journal.append("labels/other", rows(START, value=[3]))

        def odd(frame: pl.DataFrame) -> pl.Series:
            return frame["value"].abs() % 2 == 1

        assert journal.erase("labels/late", odd, until=hours[2], dry_run=True) == 2
        assert journal.read("labels/late").height == 8
        assert journal.erase("labels/late", odd, until=hours[2]) == 2
        assert sorted(journal.read("labels/late")["value"]) == [-3, -2, 0, 0, 2, 3]
        assert journal.erase("labels/late", lambda frame: frame["value"] < 9) == 6
        assert journal.kinds() == ["labels/other"]
        assert journal.erase("labels/late", odd) == 0

    def test_tidying_changes_no_row(self, journal: Journal) -> None:
        for hour in range(40):
            journal.append("labels/late", rows(START + timedelta(hours=hour), value=[hour]))
        journal.tidy("labels/late")
        journal.tidy("labels/nothing")
        assert journal.read("labels/late")["value"].to_list() == list(range(40))

    def test_an_export_fills_another_journal(self, journal: Journal, elsewhere: Journal) -> None:
        assert list(journal.export()) == []
        journal.append("labels/late", rows(START, START + timedelta(hours=1), value=[1, 2]))
        journal.append("labels/late", rows(START, value=[3], note=["Zürich"]))
        journal.append("predictions/late", rows(START, value=[4]))
        elsewhere.load(journal.export())
        assert elsewhere.kinds() == journal.kinds()
        for kind in journal.kinds():
            assert elsewhere.read(kind).sort("value").equals(journal.read(kind).sort("value"))

    def test_many_threads_append_at_once(self, opener: Callable[[], Journal]) -> None:
        def append(index: int) -> None:
            opener().append("labels/late", rows(START, value=[index]))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(append, range(40)))
        assert sorted(opener().read("labels/late")["value"].to_list()) == list(range(40))

    def test_killed_writer_leaves_only_complete_segments(self, opener: Callable[[], Journal]) -> None:
        with pytest.raises(BrokenProcessPool):
            run_in_processes(1, _write_until_killed, opener)
        found = opener().read("labels/late")
        written = found["segment"].value_counts().sort("segment")
        assert written["count"].unique().to_list() == [_SEGMENT]
        assert written["segment"].to_list() == list(range(written.height))
        opener().append("labels/late", rows(START, segment=[-1]))
        assert opener().read("labels/late").height == found.height + 1


def _write_until_killed(_: int, opener: Callable[[], Journal]) -> None:
    """Append segment by segment; a thread kills this process by SIGKILL in the middle of it."""
    from threading import Event, Thread

    written = Event()

    def kill() -> None:
        written.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=kill).start()
    journal = opener()
    for segment in range(100_000):
        columns: dict[str, list[object]] = {"segment": [segment] * _SEGMENT, "text": ["x" * 1000] * _SEGMENT}
        journal.append("labels/late", rows(*[START] * _SEGMENT, **columns))
        if segment == 20:
            written.set()
