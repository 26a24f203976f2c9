"""What every ledger promises: records that are found again, changes that are never lost, and all or nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from tidemill.core.artifact import Artifact
from tidemill.core.metric_filter import MetricFilter
from tidemill.core.resources import Books
from tidemill.core.run import Run
from tidemill.errors import Conflict, NotFound, TidemillError
from tidemill.testing.processes import in_processes
from tidemill.testing.records import event, identifier, release, run, step

__all__ = ["LedgerSuite", "event", "identifier", "release", "run", "step"]


class LedgerSuite:
    """Inherit it and give the fixture `opener`: a picklable call that opens one and the same ledger.

    ::

        class TestMyLedger(LedgerSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyLedger, tmp_path / "ledger")
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Books]:
        """Opens one and the same ledger, not there at first, as often as it is called, in any process."""
        raise NotImplementedError("give the fixture `opener`")

    @pytest.fixture
    def books(self, opener: Callable[[], Books]) -> Books:
        return opener()

    def test_records_come_back_whole(self, books: Books, opener: Callable[[], Books]) -> None:
        record = replace(
            run(1, metrics={"log_loss": 0.1 + 0.2}), params={"name": "Zürich \0 '; --", "deep": [{"x": 1}]}
        )
        assert books.runs.add(record) == record
        assert books.runs.get(record.id) == record
        assert opener().runs.get(record.id) == record

    def test_an_id_that_nothing_has(self, books: Books) -> None:
        with pytest.raises(NotFound, match="nothing-like-it") as missing:
            books.runs.get("nothing-like-it")
        assert missing.value.cure

    def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(self, books: Books) -> None:
        first, second = run(0), run(1_000_000)
        books.runs.add(first)
        assert books.runs.get(first.id[:8]) == first
        for too_short in (first.id[:7], "", "%", "%%%%%%%%%", "_" * 10):
            with pytest.raises(NotFound):
                books.runs.get(too_short)
        books.runs.add(replace(first, id=first.id[:-1] + "x"))
        books.runs.add(second)
        with pytest.raises(NotFound) as several:
            books.runs.get(first.id[:-1])
        assert several.value.cure
        assert books.runs.get(first.id) == first

    def test_records_are_found_by_their_columns_oldest_first(self, books: Books) -> None:
        for place in (3, 1, 2, 0):
            books.runs.add(run(place, pipeline="training" if place else "watching"))
        found = books.runs.find(pipeline="training")
        assert [one.id for one in found] == [identifier(place) for place in (1, 2, 3)]
        newest = books.runs.find(newest=True, limit=2)
        assert [one.id for one in newest] == [identifier(3), identifier(2)]
        assert [one.id for one in books.runs.find(after=identifier(1))] == [identifier(2), identifier(3)]
        assert books.runs.find(pipeline="training", state="failed") == []
        assert books.runs.find(limit=0) == []

    def test_words_are_found_by_their_beginnings_letter_case_aside(self, books: Books) -> None:
        books.runs.add(
            replace(run(1), tags={"note": "a 50% sample"}, cause={"by": "Zoë"}, params={"depth": [{"x": 77}]})
        )
        books.runs.add(replace(run(2), tags={"note": "SAMPLES"}, error="KeyError: 'Ankunft_Zürich'"))
        books.runs.add(
            replace(run(3, metrics={"test_log_loss": 0.5}), graph={"samplings": []}, software={"sampler": "1"})
        )
        for text, places in {
            "sample": [1, 2],
            "Sample 50": [1],
            "50% of sampling": [],
            "zoë": [1],
            "ZÜRICH": [2],
            "Zu\u0308rich keyerr": [2],
            "77 depth": [1],
            "test_log_loss": [3],
            "log": [3],
            "oss": [],
            "sampling": [],
            "training": [1, 2, 3],
            "training done test": [1, 2, 3],
            "done failed": [],
            identifier(2): [2],
            identifier(2)[:-1]: [2],
            identifier(2)[:8]: [1, 2, 3],
            "5_%": [1],
            "%": [],
            "'; --": [],
            "  ": [1, 2, 3],
            "\0": [],
            "sample:": [1, 2],
        }.items():
            assert [one.id for one in books.runs.find(text=text)] == [identifier(place) for place in places], text

    def test_every_noun_is_found_by_its_words(self, books: Books) -> None:
        books.releases.add(release(1, 12, name="late"))
        books.releases.add(release(2, 13, name="late"))
        books.events.add(replace(event(3, "key"), payload={"rows": {"why": ["late arrivals"]}}))
        assert books.releases.find(text="late/12") == [release(1, 12, name="late")]
        assert [one.id for one in books.events.find(text="arrivals", kind="data")] == [identifier(3)]

    def test_a_change_is_found_by_what_it_says_now(self, books: Books) -> None:
        books.runs.add(replace(run(1, state="running", metrics={"auc": 0.7, "loss": 1}), tags={"team": "blue"}))
        books.runs.change(
            identifier(1), lambda old: replace(old, state="done", tags={"team": "red"}, metrics={"auc": 0.8, "f1": 1})
        )
        assert books.runs.find(text="running") == books.runs.find(tag="team=blue") == []
        assert books.runs.find(metric=MetricFilter("auc", "<", 0.75)) == books.runs.find(text="loss") == []
        assert books.runs.find(metric=MetricFilter("loss", "<=", 1)) == []
        found = books.runs.find(text="done red", tag="team=red", metric=MetricFilter("auc", "=", 0.8))
        assert found == books.runs.find(metric=MetricFilter("f1", ">", 0)) == [books.runs.get(identifier(1))]

    def test_what_was_undone_is_not_found(self, books: Books) -> None:
        def break_off() -> None:
            with books.transaction():
                books.runs.add(replace(run(1, metrics={"auc": 0.7}), tags={"team": "blue"}))
                raise RuntimeError("power is gone")

        with pytest.raises(RuntimeError):
            break_off()
        assert books.runs.find(text="training") == books.runs.find(tag="team=blue") == []
        assert books.runs.find(metric=MetricFilter("auc", ">", 0)) == []
        books.runs.add(run(1))
        assert books.runs.find(metric=MetricFilter("auc", ">", 0)) == []

    @pytest.mark.parametrize("tag", ["team=blue", "größe=a=b", "long=" + "x" * 500, "odd=a\0b", "empty="])
    def test_tags_are_found_whole(self, books: Books, tag: str) -> None:
        name, _, value = tag.partition("=")
        books.runs.add(replace(run(1), tags={name: value}))
        books.runs.add(replace(run(2), tags={name: value + "x", "other": value}))
        assert [one.id for one in books.runs.find(tag=tag)] == [identifier(1)]
        assert books.runs.find(tag=tag[:-2]) == []

    def test_steps_are_found_by_what_they_took_and_gave(self, books: Books) -> None:
        books.steps.add(step(1, inputs={"rows": "a" * 64}, outputs={}, state="running"))
        books.steps.change(identifier(1), lambda old: replace(old, state="ran", outputs={"model": "b" * 64}))
        books.steps.add(step(2, inputs={"left": "b" * 64, "right": "b" * 64}))
        books.steps.add(step(3, inputs={"model": "b" * 64}))
        taking = books.steps.find(linked=f"in:{'b' * 64}")
        assert [one.id for one in taking] == [identifier(2), identifier(3)]
        assert [one.id for one in books.steps.find(linked=f"out:{'b' * 64}")] == [identifier(1)]
        newest = books.steps.find(linked=f"in:{'b' * 64}", newest=True, limit=1)
        assert [one.id for one in newest] == [identifier(3)]
        assert books.steps.find(linked=f"in:{'b' * 64}", newest=True, before=identifier(3)) == taking[:1]
        assert books.steps.find(linked="in:b") == []

    def test_pages_follow_one_another_whatever_is_asked(self, books: Books) -> None:
        for place in range(20):
            state = "failed" if place % 2 else "done"
            books.runs.add(replace(run(place, state=state, metrics={"auc": place}), tags={"team": f"blue{place % 3}"}))
        odd = MetricFilter("auc", ">=", 4)
        for asked in ({"state": "failed"}, {"text": "fail blue"}, {"metric": odd}, {"metric": odd, "text": "blue"}, {}):
            whole = books.runs.find(newest=True, **asked)
            assert whole == books.runs.find(**asked)[::-1]
            pages, before = [], ""
            while page := books.runs.find(newest=True, limit=3, before=before, **asked):
                pages += page
                before = page[-1].id
            assert pages == whole
            assert books.runs.find(limit=2, after=whole[5].id, **asked) == [whole[4], whole[3]]

    def test_values_are_the_distinct_ones(self, books: Books) -> None:
        for place, name in enumerate(["training", "training", "watching"]):
            books.runs.add(run(place, pipeline=name, state="done" if place else "failed"))
        assert books.runs.values("pipeline") == {"training", "watching"}
        assert books.runs.values("pipeline", state="failed") == {"training"}
        assert books.events.values("dedupe_key") == set()

    def test_numbers_and_text_do_not_mix(self, books: Books) -> None:
        for version in (1, 2, 10):
            books.releases.add(release(version, version))
        assert [one.version for one in books.releases.find(name="late", version=10)] == [10]

    def test_an_id_is_taken_once(self, books: Books) -> None:
        first = books.runs.add(run(1))
        with pytest.raises(Conflict) as taken:
            books.runs.add(run(1, pipeline="another"))
        assert taken.value.cure
        assert books.runs.get(first.id) == first

    def test_unique_keys_are_taken_once(self, books: Books) -> None:
        books.releases.add(release(1, 1))
        books.releases.add(release(2, 1, name="other"))
        with pytest.raises(Conflict):
            books.releases.add(release(3, 1))
        books.events.add(event(1, "key"))
        books.events.add(event(2, "key", environment="production"))
        with pytest.raises(Conflict):
            books.events.add(event(3, "key"))

    @pytest.mark.parametrize("word", ["full", "readonly", "disk I/O", "locked"])
    def test_what_a_record_says_does_not_change_the_error(self, books: Books, word: str) -> None:
        books.events.add(event(1, f"the disk is {word}"))
        with pytest.raises(Conflict):
            books.events.add(event(2, f"the disk is {word}"))

    def test_long_keys_that_differ_at_their_end_are_two(self, books: Books) -> None:
        long = "data/flights/" + "x" * 250
        books.events.add(event(1, f"{long}@1", subject=long))
        books.events.add(event(2, f"{long}@2", subject=long))
        assert len(books.events.find(subject=long)) == 2

    def test_a_change_is_kept_and_found(self, books: Books) -> None:
        books.runs.add(run(1, state="running"))
        changed = books.runs.change(identifier(1), lambda old: replace(old, state="done"))
        assert changed == books.runs.get(identifier(1)) == run(1, state="done")
        assert books.runs.find(state="running") == []
        with pytest.raises(NotFound):
            books.runs.change(identifier(2), lambda old: old)

    def test_a_change_that_raises_changes_nothing(self, books: Books) -> None:
        books.runs.add(run(1))

        def fail(_: Run) -> Run:
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            books.runs.change(identifier(1), fail)
        assert books.runs.get(identifier(1)) == run(1)

    def test_what_cannot_be_read_back_is_never_written(self, books: Books) -> None:
        with pytest.raises(TidemillError, match="metrics") as refused:
            books.runs.add(run(1, metrics={"log_loss": float("nan")}))
        assert refused.value.cure
        assert books.runs.find() == []

    def test_a_transaction_is_seen_by_others_as_a_whole(self, books: Books, opener: Callable[[], Books]) -> None:
        other = opener()
        with books.transaction():
            books.runs.add(run(1))
            books.runs.add(run(2))
            assert len(books.runs.find()) == 2
            assert other.runs.find() == []
        assert len(other.runs.find()) == 2

    @pytest.mark.parametrize("durable", [False, True])
    def test_a_transaction_that_raises_leaves_nothing(self, books: Books, *, durable: bool) -> None:
        books.runs.add(run(1, state="running"))

        def break_off() -> None:
            with books.transaction(durable=durable):
                books.runs.add(run(2))
                books.runs.change(identifier(1), lambda old: replace(old, state="done"))
                raise RuntimeError("power is gone")

        with pytest.raises(RuntimeError):
            break_off()
        assert books.runs.find() == [run(1, state="running")]
        books.runs.add(run(2))

    def test_a_transaction_within_one_joins_it(self, books: Books) -> None:
        def break_off() -> None:
            with books.transaction(durable=True):
                with books.transaction():
                    books.runs.add(run(1))
                books.runs.add(run(2))
                raise RuntimeError("power is gone")

        with pytest.raises(RuntimeError):
            break_off()
        assert books.runs.find() == []

    def test_a_conflict_inside_a_transaction_spoils_nothing_else(self, books: Books) -> None:
        books.artifacts.add(Artifact(id="a" * 64, kind="json", size=1))
        with books.transaction():
            books.runs.add(run(1))
            with pytest.raises(Conflict):
                books.artifacts.add(Artifact(id="a" * 64, kind="json", size=1))
            books.runs.add(run(2))
        assert len(books.runs.find()) == 2

    def test_a_durable_transaction_is_there_for_the_next_opening(
        self, books: Books, opener: Callable[[], Books]
    ) -> None:
        with books.transaction(durable=True):
            books.releases.add(release(1, 1))
        assert opener().releases.get(identifier(1)) == release(1, 1)

    def test_threads_lose_no_change(self, books: Books) -> None:
        books.runs.add(run(1, metrics={"count": 0}))

        def count(_: int) -> None:
            for _ in range(25):
                books.runs.change(identifier(1), _one_more)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(count, range(8)))
        assert books.runs.get(identifier(1)).metrics == {"count": 200}

    def test_four_processes_lose_no_change(self, books: Books, opener: Callable[[], Books]) -> None:
        books.runs.add(run(1, metrics={"count": 0}))
        in_processes(4, _count, opener)
        assert books.runs.get(identifier(1)).metrics == {"count": 400}

    def test_eight_processes_write_at_once_and_nothing_is_lost(self, opener: Callable[[], Books]) -> None:
        in_processes(8, _write, opener)
        books = opener()
        done = books.runs.find(state="done")
        assert len(done) == 400
        for place in range(8):
            written = books.steps.find(step=f"of {place}")
            assert [one.state for one in written] == ["ran"] * 50
            assert [one.run for one in written] == [one.id for one in books.runs.find(tag=f"by={place}")]
            assert all(len(books.steps.find(linked=f"out:{one.outputs['out']}")) == 1 for one in written[:5])

    def test_processes_create_the_ledger_at_once_and_one_of_them_wins_each_key(
        self, opener: Callable[[], Books]
    ) -> None:
        won = in_processes(4, _race, opener)
        assert sorted(version for versions in won for version in versions) == list(range(1, 21))
        assert len(opener().releases.find(name="late")) == 20


def _one_more(old: Run) -> Run:
    return replace(old, metrics={"count": old.metrics["count"] + 1})


def _count(_: int, opener: Callable[[], Books]) -> None:
    books = opener()
    for _ in range(100):
        books.runs.change(identifier(1), _one_more)


def _write(place: int, opener: Callable[[], Books]) -> None:
    """Write fifty runs with one step each, as the engine does."""
    books = opener()
    for number in range(50):
        begun, given = run(place * 1000 + number, state="running"), f"{place:032d}{number:032d}"
        books.runs.add(replace(begun, tags={"by": str(place)}))
        work = step(place * 1000 + number, state="running")
        books.steps.add(replace(work, run=begun.id, step=f"of {place}"))
        with books.transaction():
            books.artifacts.add(Artifact(id=given, kind="json", size=1))
            books.steps.change(work.id, lambda old, given=given: replace(old, state="ran", outputs={"out": given}))  # type: ignore[misc]
        books.runs.change(begun.id, lambda old: replace(old, state="done"))


def _race(place: int, opener: Callable[[], Books]) -> list[int]:
    """Open a ledger that is not there yet and add the same twenty versions as everybody; those that were ours."""
    books = opener()
    won = []
    for version in range(1, 21):
        try:
            with books.transaction(durable=True):
                books.releases.add(release(place * 100 + version, version))
        except Conflict:
            continue
        won.append(version)
    return won
