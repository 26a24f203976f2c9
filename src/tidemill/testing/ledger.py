"""Conformance suite of ledgers: search, unique keys, changes without lost updates, and transactions."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from tidemill.core.artifact import Artifact
from tidemill.core.metric_filter import MetricFilter
from tidemill.core.resources import Books
from tidemill.core.run import Run
from tidemill.errors import Conflict, NotFound, TidemillError
from tidemill.testing.processes import run_in_processes
from tidemill.testing.records import event, identifier, release, run, step

__all__ = ["LedgerSuite", "event", "identifier", "release", "run", "step"]


class LedgerSuite:
    """Subclass it and define the fixture `opener`: a picklable function that opens the same ledger at each call.

    ::

        class TestMyLedger(LedgerSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyLedger, tmp_path / "ledger")
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Books]:
        """Return a function that opens the same ledger in any process; the ledger does not exist at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def books(self, opener: Callable[[], Books]) -> Books:
        return opener()

    def test_get_returns_the_added_record(self, books: Books, opener: Callable[[], Books]) -> None:
        record = replace(
            run(1, metrics={"log_loss": 0.1 + 0.2}), params={"name": "Zürich \0 '; --", "deep": [{"x": 1}]}
        )
        assert books.runs.add(record) == record
        assert books.runs.get(record.id) == record
        assert opener().runs.get(record.id) == record

    def test_unknown_id_is_not_found(self, books: Books) -> None:
        with pytest.raises(NotFound, match="nothing-like-it") as missing:
            books.runs.get("nothing-like-it")
        assert missing.value.cure

    def test_unique_start_of_an_id_is_enough(self, books: Books) -> None:
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

    def test_find_by_columns_returns_the_oldest_first(self, books: Books) -> None:
        for index in (3, 1, 2, 0):
            books.runs.add(run(index, pipeline="training" if index else "watching"))
        found = books.runs.find(pipeline="training")
        assert [record.id for record in found] == [identifier(index) for index in (1, 2, 3)]
        newest = books.runs.find(newest=True, limit=2)
        assert [record.id for record in newest] == [identifier(3), identifier(2)]
        assert [record.id for record in books.runs.find(after=identifier(1))] == [identifier(2), identifier(3)]
        assert books.runs.find(pipeline="training", state="failed") == []
        assert books.runs.find(limit=0) == []

    def test_find_by_the_start_of_words_ignores_letter_case(self, books: Books) -> None:
        books.runs.add(
            replace(run(1), tags={"note": "a 50% sample"}, cause={"by": "Zoë"}, params={"depth": [{"x": 77}]})
        )
        books.runs.add(replace(run(2), tags={"note": "SAMPLES"}, error="KeyError: 'Ankunft_Zürich'"))
        books.runs.add(
            replace(run(3, metrics={"test_log_loss": 0.5}), graph={"samplings": []}, software={"sampler": "1"})
        )
        for text, indices in {
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
            assert [record.id for record in books.runs.find(text=text)] == [identifier(index) for index in indices], (
                text
            )

    def test_find_by_words_in_other_books(self, books: Books) -> None:
        books.releases.add(release(1, 12, name="late"))
        books.releases.add(release(2, 13, name="late"))
        books.events.add(replace(event(3, "key"), payload={"rows": {"why": ["late arrivals"]}}))
        assert books.releases.find(text="late/12") == [release(1, 12, name="late")]
        assert [record.id for record in books.events.find(text="arrivals", kind="data")] == [identifier(3)]

    def test_find_uses_the_changed_record(self, books: Books) -> None:
        books.runs.add(replace(run(1, state="running", metrics={"auc": 0.7, "loss": 1}), tags={"team": "blue"}))
        books.runs.change(
            identifier(1), lambda old: replace(old, state="done", tags={"team": "red"}, metrics={"auc": 0.8, "f1": 1})
        )
        assert books.runs.find(text="running") == books.runs.find(tag="team=blue") == []
        assert books.runs.find(metric=MetricFilter("auc", "<", 0.75)) == books.runs.find(text="loss") == []
        assert books.runs.find(metric=MetricFilter("loss", "<=", 1)) == []
        found = books.runs.find(text="done red", tag="team=red", metric=MetricFilter("auc", "=", 0.8))
        assert found == books.runs.find(metric=MetricFilter("f1", ">", 0)) == [books.runs.get(identifier(1))]

    def test_find_ignores_rolled_back_records(self, books: Books) -> None:
        def fail_in_transaction() -> None:
            with books.transaction():
                books.runs.add(replace(run(1, metrics={"auc": 0.7}), tags={"team": "blue"}))
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError):
            fail_in_transaction()
        assert books.runs.find(text="training") == books.runs.find(tag="team=blue") == []
        assert books.runs.find(metric=MetricFilter("auc", ">", 0)) == []
        books.runs.add(run(1))
        assert books.runs.find(metric=MetricFilter("auc", ">", 0)) == []

    @pytest.mark.parametrize("tag", ["team=blue", "größe=a=b", "long=" + "x" * 500, "odd=a\0b", "empty="])
    def test_find_by_tag_matches_the_whole_tag(self, books: Books, tag: str) -> None:
        name, _, value = tag.partition("=")
        books.runs.add(replace(run(1), tags={name: value}))
        books.runs.add(replace(run(2), tags={name: value + "x", "other": value}))
        assert [record.id for record in books.runs.find(tag=tag)] == [identifier(1)]
        assert books.runs.find(tag=tag[:-2]) == []

    def test_find_steps_by_inputs_and_outputs(self, books: Books) -> None:
        books.steps.add(step(1, inputs={"rows": "a" * 64}, outputs={}, state="running"))
        books.steps.change(identifier(1), lambda old: replace(old, state="ran", outputs={"model": "b" * 64}))
        books.steps.add(step(2, inputs={"left": "b" * 64, "right": "b" * 64}))
        books.steps.add(step(3, inputs={"model": "b" * 64}))
        consumers = books.steps.find(linked=f"in:{'b' * 64}")
        assert [record.id for record in consumers] == [identifier(2), identifier(3)]
        assert [record.id for record in books.steps.find(linked=f"out:{'b' * 64}")] == [identifier(1)]
        newest = books.steps.find(linked=f"in:{'b' * 64}", newest=True, limit=1)
        assert [record.id for record in newest] == [identifier(3)]
        assert books.steps.find(linked=f"in:{'b' * 64}", newest=True, before=identifier(3)) == consumers[:1]
        assert books.steps.find(linked="in:b") == []

    def test_pages_are_complete_for_each_kind_of_search(self, books: Books) -> None:
        for index in range(20):
            state = "failed" if index % 2 else "done"
            books.runs.add(replace(run(index, state=state, metrics={"auc": index}), tags={"team": f"blue{index % 3}"}))
        odd = MetricFilter("auc", ">=", 4)
        for arguments in (
            {"state": "failed"},
            {"text": "fail blue"},
            {"metric": odd},
            {"metric": odd, "text": "blue"},
            {},
        ):
            all_records = books.runs.find(newest=True, **arguments)
            assert all_records == books.runs.find(**arguments)[::-1]
            pages, before = [], ""
            while page := books.runs.find(newest=True, limit=3, before=before, **arguments):
                pages += page
                before = page[-1].id
            assert pages == all_records
            assert books.runs.find(limit=2, after=all_records[5].id, **arguments) == [all_records[4], all_records[3]]

    def test_values_are_distinct(self, books: Books) -> None:
        for index, name in enumerate(["training", "training", "watching"]):
            books.runs.add(run(index, pipeline=name, state="done" if index else "failed"))
        assert books.runs.values("pipeline") == {"training", "watching"}
        assert books.runs.values("pipeline", state="failed") == {"training"}
        assert books.events.values("dedupe_key") == set()

    def test_find_by_number_is_exact(self, books: Books) -> None:
        for version in (1, 2, 10):
            books.releases.add(release(version, version))
        assert [record.version for record in books.releases.find(name="late", version=10)] == [10]

    def test_duplicate_id_is_a_conflict(self, books: Books) -> None:
        first = books.runs.add(run(1))
        with pytest.raises(Conflict) as conflict:
            books.runs.add(run(1, pipeline="another"))
        assert conflict.value.cure
        assert books.runs.get(first.id) == first

    def test_duplicate_unique_key_is_a_conflict(self, books: Books) -> None:
        books.releases.add(release(1, 1))
        books.releases.add(release(2, 1, name="other"))
        with pytest.raises(Conflict):
            books.releases.add(release(3, 1))
        books.events.add(event(1, "key"))
        books.events.add(event(2, "key", environment="production"))
        with pytest.raises(Conflict):
            books.events.add(event(3, "key"))

    @pytest.mark.parametrize("word", ["full", "readonly", "disk I/O", "locked"])
    def test_content_of_a_record_does_not_change_the_error(self, books: Books, word: str) -> None:
        books.events.add(event(1, f"the disk is {word}"))
        with pytest.raises(Conflict):
            books.events.add(event(2, f"the disk is {word}"))

    def test_long_keys_with_different_ends_are_different(self, books: Books) -> None:
        long = "data/flights/" + "x" * 250
        books.events.add(event(1, f"{long}@1", subject=long))
        books.events.add(event(2, f"{long}@2", subject=long))
        assert len(books.events.find(subject=long)) == 2

    def test_change_is_stored_and_found(self, books: Books) -> None:
        books.runs.add(run(1, state="running"))
        changed = books.runs.change(identifier(1), lambda old: replace(old, state="done"))
        assert changed == books.runs.get(identifier(1)) == run(1, state="done")
        assert books.runs.find(state="running") == []
        with pytest.raises(NotFound):
            books.runs.change(identifier(2), lambda old: old)

    def test_failed_change_changes_nothing(self, books: Books) -> None:
        books.runs.add(run(1))

        def fail(_: Run) -> Run:
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            books.runs.change(identifier(1), fail)
        assert books.runs.get(identifier(1)) == run(1)

    def test_record_that_is_no_json_is_never_written(self, books: Books) -> None:
        with pytest.raises(TidemillError, match="metrics") as refused:
            books.runs.add(run(1, metrics={"log_loss": float("nan")}))
        assert refused.value.cure
        assert books.runs.find() == []

    def test_other_connections_see_a_transaction_only_after_its_commit(
        self, books: Books, opener: Callable[[], Books]
    ) -> None:
        other = opener()
        with books.transaction():
            books.runs.add(run(1))
            books.runs.add(run(2))
            assert len(books.runs.find()) == 2
            assert other.runs.find() == []
        assert len(other.runs.find()) == 2

    @pytest.mark.parametrize("durable", [False, True])
    def test_failed_transaction_is_rolled_back(self, books: Books, *, durable: bool) -> None:
        books.runs.add(run(1, state="running"))

        def fail_in_transaction() -> None:
            with books.transaction(durable=durable):
                books.runs.add(run(2))
                books.runs.change(identifier(1), lambda old: replace(old, state="done"))
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError):
            fail_in_transaction()
        assert books.runs.find() == [run(1, state="running")]
        books.runs.add(run(2))

    def test_inner_transaction_joins_the_outer_one(self, books: Books) -> None:
        def fail_in_transaction() -> None:
            with books.transaction(durable=True):
                with books.transaction():
                    books.runs.add(run(1))
                books.runs.add(run(2))
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError):
            fail_in_transaction()
        assert books.runs.find() == []

    def test_transaction_continues_after_a_conflict(self, books: Books) -> None:
        books.artifacts.add(Artifact(id="a" * 64, kind="json", size=1))
        with books.transaction():
            books.runs.add(run(1))
            with pytest.raises(Conflict):
                books.artifacts.add(Artifact(id="a" * 64, kind="json", size=1))
            books.runs.add(run(2))
        assert len(books.runs.find()) == 2

    def test_durable_transaction_is_visible_after_reopening(self, books: Books, opener: Callable[[], Books]) -> None:
        with books.transaction(durable=True):
            books.releases.add(release(1, 1))
        assert opener().releases.get(identifier(1)) == release(1, 1)

    def test_changes_of_threads_are_not_lost(self, books: Books) -> None:
        books.runs.add(run(1, metrics={"count": 0}))

        def count(_: int) -> None:
            for _ in range(25):
                books.runs.change(identifier(1), _one_more)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(count, range(8)))
        assert books.runs.get(identifier(1)).metrics == {"count": 200}

    def test_changes_of_four_processes_are_not_lost(self, books: Books, opener: Callable[[], Books]) -> None:
        books.runs.add(run(1, metrics={"count": 0}))
        run_in_processes(4, _count, opener)
        assert books.runs.get(identifier(1)).metrics == {"count": 400}

    def test_writes_of_eight_processes_are_not_lost(self, opener: Callable[[], Books]) -> None:
        run_in_processes(8, _write, opener)
        books = opener()
        done = books.runs.find(state="done")
        assert len(done) == 400
        for index in range(8):
            written = books.steps.find(step=f"of {index}")
            assert [record.state for record in written] == ["ran"] * 50
            assert [record.run for record in written] == [record.id for record in books.runs.find(tag=f"by={index}")]
            assert all(len(books.steps.find(linked=f"out:{record.outputs['out']}")) == 1 for record in written[:5])

    def test_one_process_wins_each_unique_key(self, opener: Callable[[], Books]) -> None:
        won = run_in_processes(4, _race, opener)
        assert sorted(version for versions in won for version in versions) == list(range(1, 21))
        assert len(opener().releases.find(name="late")) == 20


def _one_more(old: Run) -> Run:
    return replace(old, metrics={"count": old.metrics["count"] + 1})


def _count(_: int, opener: Callable[[], Books]) -> None:
    books = opener()
    for _ in range(100):
        books.runs.change(identifier(1), _one_more)


def _write(index: int, opener: Callable[[], Books]) -> None:
    """Write fifty runs with one step each, in the same way as the engine."""
    books = opener()
    for number in range(50):
        started, digest = run(index * 1000 + number, state="running"), f"{index:032d}{number:032d}"
        books.runs.add(replace(started, tags={"by": str(index)}))
        record = step(index * 1000 + number, state="running")
        books.steps.add(replace(record, run=started.id, step=f"of {index}"))
        with books.transaction():
            books.artifacts.add(Artifact(id=digest, kind="json", size=1))
            books.steps.change(record.id, lambda old, digest=digest: replace(old, state="ran", outputs={"out": digest}))  # type: ignore[misc]
        books.runs.change(started.id, lambda old: replace(old, state="done"))


def _race(index: int, opener: Callable[[], Books]) -> list[int]:
    """Open a new ledger and add twenty versions, as the other processes do; return the versions that it added."""
    books = opener()
    won = []
    for version in range(1, 21):
        try:
            with books.transaction(durable=True):
                books.releases.add(release(index * 100 + version, version))
        except Conflict:
            continue
        won.append(version)
    return won
