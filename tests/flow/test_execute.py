"""Running a graph: artifacts in and out, the cache and its reasons, transient steps, resources."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.flow.kit import NOON, Mill
from tidemill.clock import Clock, VirtualClock
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import pipeline, step
from tidemill.core.resources import Books, BooksReader, JournalReader, Tables
from tidemill.core.run import Metrics
from tidemill.flow.engine import resume


@step
def load(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows)})


@step
def add(frame: pl.DataFrame, by: int = 1) -> int:
    return int(frame["x"].sum()) + by


@step
def pair(number: int) -> tuple[int, str]:
    return number, "x" * number


@step
def join(parts: list[int], word: str) -> str:
    return f"{sum(parts)} {word}"


@step(transient=True)
def widen(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(y=pl.col("x") * 2)


@step
def height(frame: pl.DataFrame) -> int:
    return frame.height


@pipeline
def training(rows: int = 4, by: int = 1) -> None:
    number = add(load(rows), by)
    first, word = pair(number)
    join([first, number, 5], word)


@pipeline
def wide(rows: int = 4) -> None:
    height(widen(load(rows)))


def test_values_flow_and_are_kept_as_artifacts(mill: Mill) -> None:
    done = mill.run(training)
    assert mill.value(done, "join").decode("utf-8-sig") == "19 xxxxxxx"
    steps = mill.steps(done)
    assert [one.position for one in steps.values()] == [0, 1, 2, 3]
    assert set(steps["pair"].outputs) == {"output0", "output1"}
    frame = mill.books.artifacts.get(steps["load"].outputs["output"])
    assert (frame.kind, frame.summary) == ("frame", {"rows": 4, "columns": {"x": "Int64"}})
    assert frame.size == len(mill.value(done, "load"))
    assert steps["add"].inputs["frame"] == frame.digest
    assert done.graph == {"load": [], "add": ["load"], "pair": ["add"], "join": ["pair", "add"]}
    assert (done.state, done.pipeline, done.started) == ("done", "training", NOON)


def test_the_same_again_is_taken_with_its_reason(mill: Mill) -> None:
    first, second = mill.run(training), mill.run(training)
    assert set(mill.states(first).values()) == {"ran"}
    assert set(mill.states(second).values()) == {"cached"}
    for name, taken in mill.steps(second).items():
        assert taken.outputs == mill.steps(first)[name].outputs
        assert (taken.decision, first.id[:13] in taken.reason) == ("hit", True)


def test_only_what_depends_on_a_change_runs_again(mill: Mill) -> None:
    mill.run(training)
    changed = mill.run(training, by=2)
    assert mill.states(changed) == {"load": "cached", "add": "ran", "pair": "ran", "join": "ran"}
    assert mill.steps(changed)["add"].reason == "first time with this code and these inputs"
    assert mill.steps(changed)["add"].decision == "new"


def test_a_step_that_gives_the_same_again_stops_the_change(mill: Mill) -> None:
    @step
    def sign(number: int) -> int:
        return 1 if number > 0 else -1

    @step
    def say(number: int) -> str:
        return str(number)

    @pipeline
    def signs(number: int) -> None:
        say(sign(number))

    mill.run(signs, number=5)
    assert mill.states(mill.run(signs, number=6)) == {"sign": "ran", "say": "cached"}


def test_a_blob_that_is_gone_is_made_again_and_reports_it(mill: Mill) -> None:
    first = mill.run(training)
    lost = mill.steps(first)["add"].outputs["output"]
    mill.workspace.blobs.delete(lost)
    second = mill.run(training)
    assert mill.states(second) == {"load": "cached", "add": "ran", "pair": "cached", "join": "cached"}
    assert lost[:12] in mill.steps(second)["add"].reason
    assert mill.workspace.blobs.has(lost)


@pytest.mark.parametrize(
    "harm", [lambda content: content[:-1] + b"?", lambda content: content[:-1]], ids=["altered", "cut"]
)
def test_an_altered_blob_is_made_again_and_reports_it(
    mill: Mill, tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    digest = mill.steps(mill.run(training))["load"].outputs["output"]
    (file,) = tmp_path.rglob(digest)
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    again = mill.run(training, by=3)
    assert mill.states(again)["load"] == "ran"
    assert "changed" in mill.steps(again)["load"].reason
    assert file.read_bytes() == whole


def test_an_environment_takes_only_what_it_made(mill: Mill, tmp_path: Path) -> None:
    mill.run(training)
    production = Mill(tmp_path, "production", VirtualClock(NOON, seed=1))
    assert set(production.states(production.run(training)).values()) == {"ran"}
    assert set(production.states(production.run(training)).values()) == {"cached"}


def test_a_transient_step_is_skipped_where_nobody_needs_it(mill: Mill) -> None:
    first, second = mill.run(wide), mill.run(wide)
    assert mill.states(first) == {"load": "ran", "widen": "ran", "height": "ran"}
    assert mill.states(second) == {"load": "cached", "widen": "skipped", "height": "cached"}
    assert mill.steps(second)["widen"].reason == "transient, and no step needed its value"
    assert mill.steps(second)["widen"].decision == "unneeded"
    widened = mill.steps(first)["widen"].outputs["output"]
    assert not mill.workspace.blobs.has(widened)


def test_a_transient_step_is_made_again_where_its_value_is_needed(mill: Mill) -> None:
    @step
    def columns(frame: pl.DataFrame) -> list[str]:
        return frame.columns

    @pipeline
    def wider(rows: int = 4) -> None:
        frame = widen(load(rows))
        height(frame)
        columns(frame)

    mill.run(wide)
    again = mill.run(wider)
    assert mill.states(again) == {"load": "cached", "widen": "ran", "height": "cached", "columns": "ran"}
    assert mill.value(again, "columns") == b'["x","y"]'


@pytest.mark.parametrize("options", [{"cache": False}, {"cache": False, "transient": True}], ids=str)
def test_a_step_whose_cache_is_off_always_runs(mill: Mill, options: dict[str, Any]) -> None:
    @step(**options)
    def fetch() -> int:
        return 3

    @pipeline
    def fetching() -> None:
        pair(fetch())

    assert mill.states(mill.run(fetching))["fetch"] == "ran"
    again = mill.run(fetching)
    assert mill.states(again)["fetch"] == "ran"
    assert mill.steps(again)["fetch"].reason == "its cache is off"
    assert mill.steps(again)["fetch"].decision == "off"
    assert mill.value(again, "pair", "output0") == b"3"


def test_a_step_that_may_write_is_never_cached(mill: Mill) -> None:
    @step
    def write(number: int, tables: Tables, context: Context) -> int:
        return tables.append("numbers", f"{context.run}", pl.DataFrame({"number": [number]}))

    @pipeline
    def writing() -> None:
        write(3)

    first, second = mill.run(writing), mill.run(writing)
    assert mill.states(second) == {"write": "ran"}
    assert mill.steps(second)["write"].reason == "it has side effects: never cached"
    assert mill.steps(second)["write"].decision == "changes"
    assert (mill.value(first, "write"), mill.value(second, "write")) == (b"0", b"1")


def test_a_step_that_reads_the_ledger_is_never_cached_and_cannot_write(mill: Mill) -> None:
    @step
    def look(books: BooksReader) -> list[Any]:
        return [len(books.runs.find()), *(hasattr(books.runs, name) for name in ("add", "change", "transaction"))]

    @pipeline
    def looking() -> None:
        look()

    first, second = mill.run(looking), mill.run(looking)
    assert mill.steps(second)["look"].reason == "it reads external state: never cached"
    assert mill.value(first, "look") == b"[1,false,false,false]"
    assert mill.value(second, "look") == b"[2,false,false,false]"
    assert not hasattr(mill.session.resource(BooksReader), "transaction")


@pytest.mark.parametrize("transient", [False, True])
def test_resources_are_filled_by_their_type(mill: Mill, *, transient: bool) -> None:
    @step(transient=transient)
    def look(books: Books, journal: JournalReader, clock: Clock, context: Context) -> dict[str, Any]:
        assert journal.read("nothing").is_empty()
        return {
            "now": clock.now().isoformat(),
            "runs": len(books.runs.find()),
            "step": context.step,
            "environment": context.environment,
            "model": context.model,
        }

    @step
    def keep(found: dict[str, Any]) -> dict[str, Any]:
        return found

    @pipeline
    def looking() -> None:
        keep(look())

    done = mill.run(looking)
    assert mill.value(done, "keep") == (
        b'{"environment":"test","model":"","now":"2013-03-01T12:00:00+00:00","runs":1,"step":"look"}'
    )


def test_a_resource_that_only_reads_does_not_prevent_the_cache(mill: Mill) -> None:
    @step
    def peek(number: int, journal: JournalReader) -> int:
        return number

    @pipeline
    def peeking() -> None:
        peek(1)

    mill.run(peeking)
    assert mill.states(mill.run(peeking)) == {"peek": "cached"}


def test_metrics_make_the_run_searchable(mill: Mill) -> None:
    @step
    def measure(about: str) -> Metrics:
        return Metrics(values={"log_loss": 0.25}, slices={"origin=JFK": {"log_loss": 0.3, "rows": 40.0}}, about=about)

    @pipeline
    def measuring() -> None:
        measure("test")
        measure("train")

    done = mill.run(measuring)
    assert done.metrics == {"test_log_loss": 0.25, "train_log_loss": 0.25}
    assert mill.books.runs.get(done.id).metrics == done.metrics
    assert mill.states(mill.run(measuring)) == {"measure": "cached", "measure-2": "cached"}


def test_a_number_that_is_none_is_refused_where_it_is_given(mill: Mill) -> None:
    @step
    def measure() -> Metrics:
        return Metrics(values={"log_loss": float("nan")})

    @pipeline
    def measuring() -> None:
        measure()

    run, error = mill.try_to_run(measuring)
    assert error is not None
    assert "not finite" in str(error)
    assert mill.books.runs.get(run.id).state == "failed"
    assert mill.books.runs.find() == [run]


def test_verdicts_are_stored_with_their_run(mill: Mill) -> None:
    verdict = Verdict(check="drift", subject="late", outcome="fail", action="retrain", reason="moved")

    @step
    def judge(number: int) -> list[Verdict]:
        return [verdict, verdict]

    @pipeline
    def watching() -> None:
        judge(1)

    done, again = mill.run(watching), mill.run(watching)
    stored = mill.books.verdicts.find(run=done.id)
    assert [(v.check, v.action, v.environment, v.time) for v in stored] == [("drift", "retrain", "test", NOON)] * 2
    assert len(mill.books.events.find(kind="verdict")) == 4
    assert mill.states(again) == {"judge": "cached"}
    assert len(mill.books.verdicts.find(run=again.id)) == 2


def test_the_next_step_sees_a_verdict_under_its_stored_id(mill: Mill, tmp_path: Path) -> None:
    verdict = Verdict(check="drift", subject="late", outcome="pass", action="proceed", reason="the same words")
    seen = tmp_path / "seen"
    broken = tmp_path / "broken"

    @step
    def judge(number: int) -> tuple[list[Verdict], Verdict]:
        return [verdict, verdict], verdict

    @step
    def act(several: list[Verdict], single: Verdict, clock: Clock, context: Context) -> int:
        seen.write_text(" ".join(one.id for one in (*several, single)))
        if broken.exists():
            raise ValueError("broken")
        return 0

    @pipeline
    def judging() -> None:
        several, single = judge(1)
        act(several, single)

    first = mill.run(judging)
    stored = [one.id for one in mill.books.verdicts.find(run=first.id)]
    assert seen.read_text().split() == stored
    assert mill.steps(first)["judge"].verdicts == {"output0": tuple(stored[:2]), "output1": tuple(stored[2:])}

    broken.touch()
    cached, error = mill.try_to_run(judging)
    assert error is not None
    again = [one.id for one in mill.books.verdicts.find(run=cached.id)]
    assert (mill.states(cached)["judge"], seen.read_text().split()) == ("cached", again)
    assert len({*stored, *again}) == 6
    assert mill.steps(cached)["judge"].outputs == mill.steps(first)["judge"].outputs, "the id is no part of the value"

    broken.unlink()
    mill.session.project.code.pipelines["judging"] = judging
    resume(mill.session, cached.id)
    assert seen.read_text().split() == again, "a resumed run keeps the ids of the first attempt"
    assert len(mill.books.verdicts.find(run=cached.id)) == 3
