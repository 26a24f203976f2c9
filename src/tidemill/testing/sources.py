"""Conformance suite of sources: batches with stable ids, and rows with their times."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tidemill.core.columns import KNOWN_AT, TIME
from tidemill.core.feature import Entity, FeatureView
from tidemill.core.resources import Sources
from tidemill.errors import NotFound

VIEW = FeatureView(name="spend", entity=Entity("order", ("id",)), source="orders", columns=("amount",))
MONDAY = datetime(2013, 3, 4, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def orders(*numbers: int) -> pl.DataFrame:
    """Return rows of the source `orders`, one for each number."""
    moments = [MONDAY + timedelta(hours=number) for number in numbers]
    return pl.DataFrame(
        {"id": list(numbers), "at": moments, "amount": [number + 0.5 for number in numbers]},
        schema={"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "amount": pl.Float64},
    )


class SourcesSuite:
    """Subclass it and define the fixture `opener`: a function that opens the source `orders` with the rows of frames.

    The event time of `orders` is `at`, its key is `id`; the frames arrive one after the other, before the year 2100.
    Two calls with the same frames in one test open the same source.

    ::

        class TestMySources(SourcesSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                def open_sources(frames):
                    for index, frame in enumerate(frames):
                        frame.write_parquet(tmp_path / f"{index}.parquet")
                    return MySources(tmp_path, time="at", key=("id",))

                return open_sources
    """

    @pytest.fixture
    def opener(self) -> Callable[[Sequence[pl.DataFrame]], Sources]:
        """Return a function that opens sources; the source `orders` has the rows of the frames."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def sources(self, opener: Callable[[Sequence[pl.DataFrame]], Sources]) -> Sources:
        return opener([orders(0, 1), orders(2, 3, 4)])

    def test_the_batches_have_every_row_once(self, sources: Sources) -> None:
        batches = sources.batches("orders", LATER)
        assert [batch.source for batch in batches] == ["orders"] * len(batches)
        assert len({batch.id for batch in batches}) == len(batches) > 0
        assert [batch.known_at for batch in batches] == sorted(batch.known_at for batch in batches)
        rows = pl.concat([sources.read(batch) for batch in batches], how="diagonal_relaxed")
        assert sorted(rows["id"]) == [0, 1, 2, 3, 4]
        assert sorted(rows["amount"]) == [0.5, 1.5, 2.5, 3.5, 4.5]

    def test_rows_have_their_times(self, sources: Sources) -> None:
        for batch in sources.batches("orders", LATER):
            rows = sources.read(batch)
            assert rows[TIME].to_list() == [MONDAY + timedelta(hours=number) for number in rows["id"]]
            assert rows[KNOWN_AT].null_count() == 0

    def test_unchanged_batches_keep_their_ids(
        self, sources: Sources, opener: Callable[[Sequence[pl.DataFrame]], Sources]
    ) -> None:
        ids = [batch.id for batch in sources.batches("orders", LATER)]
        assert [batch.id for batch in sources.batches("orders", LATER)] == ids
        again = opener([orders(0, 1), orders(2, 3, 4)])
        assert [batch.id for batch in again.batches("orders", LATER)] == ids
        assert again.declared == sources.declared

    def test_no_batch_is_known_before_it_arrived(self, sources: Sources) -> None:
        for until in (MONDAY, datetime.now(UTC), LATER):
            assert all(batch.known_at <= until for batch in sources.batches("orders", until))

    def test_history_contains_rows_known_by_a_time(self, sources: Sources) -> None:
        history = sources.history(VIEW, LATER)
        assert sorted(history["id"]) == [0, 1, 2, 3, 4]
        assert {TIME, KNOWN_AT, "amount"} <= set(history.columns)
        median = history[KNOWN_AT].sort()[2]
        assert isinstance(median, datetime)
        assert sorted(sources.history(VIEW, median)["id"]) == sorted(history.filter(pl.col(KNOWN_AT) <= median)["id"])

    def test_an_unknown_source_is_not_found(self, sources: Sources) -> None:
        for read in (sources.definition, sources.schema, lambda name: sources.batches(name, LATER)):
            with pytest.raises(NotFound) as refused:
                read("ordres")
            assert refused.value.cure
