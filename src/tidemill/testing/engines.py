"""Conformance suite of engines: equal results, isolated failures, and runs that never hang."""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec import Struct

from tidemill.blobs.artifacts import read_artifact
from tidemill.clock import Clock
from tidemill.core.context import Context
from tidemill.core.pipeline import Pipeline, pipeline, step
from tidemill.core.resources import Books, Tables
from tidemill.core.run import Metrics, Run, StepRun
from tidemill.errors import DataError, StepFailed, TidemillError, Transient
from tidemill.flow.engine import resume, run
from tidemill.flow.session import Session


class Coordinates(Struct, frozen=True):
    """A struct that is the output of one step and the input of another."""

    x: int
    y: float


@step
def load(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows)})


@step(transient=True)
def widen(frame: pl.DataFrame, point: Coordinates) -> pl.DataFrame:
    return frame.with_columns(y=pl.col("x") * point.x)


@step
def measure(frame: pl.DataFrame, about: str) -> tuple[Metrics, Coordinates]:
    return Metrics(values={"sum": float(frame["y"].sum())}, about=about), Coordinates(x=frame.height, y=0.5)


@step
def join(points: list[Coordinates], names: list[str]) -> str:
    return " ".join(f"{name}{point.x}" for name, point in zip(names, points, strict=True))


@pipeline
def typed(rows: int = 4) -> None:
    wide = widen(load(rows), Coordinates(x=3, y=1.0))
    _, first = measure(wide, "a")
    _, second = measure(widen(load(rows + 1), Coordinates(x=3, y=1.0)), "b")
    join([first, second], ["a", "ü"])


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def double(number: int, plus: int) -> int:
    if number == 2 and os.environ.get("TIDEMILL_TEST_HARM"):
        raise ValueError("two is bad today")
    return 2 * number + plus


@step
def total(parts: list[int]) -> int:
    return sum(parts)


@pipeline
def mapped(count: int = 4) -> None:
    once = double.map(numbers(count), plus=1)
    total(double.map(once, plus=0))


@step
def write(number: int, tables: Tables, books: Books, clock: Clock, context: Context) -> list[str]:
    tables.append("numbers", context.run, pl.DataFrame({"number": [number]}))
    return [context.step, context.environment, books.runs.get(context.run).state, str(clock.now().year >= 2013)]


@pipeline
def writing() -> None:
    write(3)


@step(retries=2)
def flaky(folder: str, fails: int) -> int:
    tries = len(list(Path(folder).glob("try-*")))
    (Path(folder) / f"try-{tries}").touch()
    if tries < fails:
        raise Transient("the source is not available", "wait, then try again")
    return tries


@pipeline
def run_flaky(folder: str, fails: int) -> None:
    flaky(folder, fails)


class _Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("cannot be pickled", lambda: None)


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("this error has no text")


@step(timeout="1s")
def misbehave(how: str) -> Any:
    """Do one thing that a step must not do."""
    match how:
        case "raises":
            raise ZeroDivisionError("division by the tide")
        case "raises an error that cannot be pickled":
            raise _Unpicklable
        case "raises an error of tidemill":
            raise DataError("rows.csv is empty", "add rows to it")
        case "raises half a character":
            with contextlib.suppress(UnicodeEncodeError):  # a terminal may raise it
                print("cannot read caf\udce9.csv")
            raise ValueError("cannot read caf\udce9.csv")
        case "raises an error without a text":
            raise _Unprintable
        case "exits":
            sys.exit("bye")
        case "returns a generator":
            return (number for number in range(3))
        case "returns an open file":
            return sys.stdin
        case "hangs":
            while True:
                time.sleep(0.01)
        case "hangs, and catches every exception":
            with contextlib.suppress(Exception):
                time.sleep(60)
        case "exits its process":
            os._exit(4)
        case "kills its process":
            os.kill(os.getpid(), signal.SIGKILL)
    return how


@step
def before() -> int:
    return 1


@step
def after(number: int, value: Any) -> str:
    return f"{number} {value}"


@pipeline
def misbehaving(how: str) -> None:
    after(before(), misbehave(how))


@step
def print_much(lines: int) -> int:
    print("the beginning")
    for _ in range(lines):
        sys.stdout.write("x" * 99 + "\n")
    logging.getLogger("user").warning("near the end")
    print("the end", file=sys.stderr)
    return 1


@pipeline
def printing(lines: int) -> None:
    print_much(lines)


@step
def fork() -> int:
    if os.fork() == 0:
        return 666
    os.wait()
    return 1


@pipeline
def forking() -> None:
    fork()


@step
def meet(folder: str, name: str, other_name: str) -> str:
    (Path(folder) / name).touch()
    until = time.monotonic() + 300
    while not (Path(folder) / other_name).exists():
        if time.monotonic() > until:
            raise TimeoutError("the other step did not start")
        time.sleep(0.01)
    return name


@pipeline
def meeting(folder: str) -> None:
    meet(folder, "first", "second")
    meet(folder, "second", "first")


_FAILURES: list[tuple[str, type[TidemillError], str]] = [
    ("raises", StepFailed, "ZeroDivisionError: division by the tide"),
    ("raises an error that cannot be pickled", StepFailed, "_Unpicklable"),
    ("raises an error of tidemill", DataError, "rows.csv is empty"),
    ("raises half a character", StepFailed, "caf\\udce9.csv"),
    ("raises an error without a text", StepFailed, "_Unprintable"),
    ("exits", StepFailed, "SystemExit: bye"),
    ("returns a generator", TidemillError, "generator"),
    ("returns an open file", TidemillError, "open file"),
    ("hangs", TidemillError, "timeout of 0:00:01"),
    ("hangs, and catches every exception", TidemillError, "timeout of 0:00:01"),
    ("exits its process", TidemillError, "exited with code 4"),
    ("kills its process", TidemillError, "signal 9"),
]


class EngineSuite:
    """Subclass it, name the engine, and define the fixture `session`, whose workspace is empty.

    Set `isolated` if the engine survives the crash of a step's process, and `wide` if it runs steps in parallel.

    ::

        class TestMyEngine(EngineSuite):
            name = "mine"
            isolated = wide = True

            @pytest.fixture
            def session(self, tmp_path):
                ...
    """

    name = "inline"
    isolated = False
    wide = False

    @pytest.fixture
    def session(self) -> Session:
        """A session of a project without code."""
        raise NotImplementedError("define the fixture `session`")

    @pytest.fixture(autouse=True)
    def _closed(self, session: Session) -> Iterator[None]:
        yield
        for engine in session.engines.values():
            engine.close()

    def _try(self, session: Session, pipeline: Pipeline, **params: Any) -> tuple[Run, TidemillError | None]:
        return run(session, pipeline, params, engine=self.name)

    def _run(self, session: Session, pipeline: Pipeline, **params: Any) -> Run:
        done, failed = self._try(session, pipeline, **params)
        if failed is not None:
            raise failed
        return done

    def _steps(self, session: Session, done: Run) -> dict[str, StepRun]:
        return {record.step: record for record in session.workspace.ledger.steps.find(run=done.id)}

    def _value(self, session: Session, done: Run, name: str) -> Any:
        artifact = session.workspace.ledger.artifacts.get(self._steps(session, done)[name].outputs["output"])
        return read_artifact(session.workspace.blobs, artifact, Any)

    def test_values_flow_by_their_types(self, session: Session) -> None:
        done = self._run(session, typed)
        assert self._value(session, done, "join") == "a4 ü5"
        assert done.metrics == {"a_sum": 18.0, "b_sum": 30.0}
        assert done.engine == self.name
        states = {name: record.state for name, record in self._steps(session, done).items()}
        assert set(states.values()) == {"ran"}
        assert all(record.executor.startswith(self.name) for record in self._steps(session, done).values())

    def test_finished_steps_are_cached(self, session: Session) -> None:
        self._run(session, typed)
        again = self._run(session, typed)
        states = {name: record.state for name, record in self._steps(session, again).items()}
        assert {name for name, state in states.items() if state == "cached"} == {
            "load", "load-2", "measure", "measure-2", "join",
        }  # fmt: skip
        assert again.metrics == {"a_sum": 18.0, "b_sum": 30.0}

    def test_step_maps_over_the_output_of_a_step(self, session: Session) -> None:
        done = self._run(session, mapped)
        assert self._value(session, done, "total") == 32
        assert sum(1 for name in self._steps(session, done) if name.startswith("double")) == 8
        empty = self._run(session, mapped, count=0)
        assert self._value(session, empty, "total") == 0
        more = self._steps(session, self._run(session, mapped, count=5))
        assert [more[f"double[{index}]"].state for index in range(5)] == ["cached"] * 4 + ["ran"]

    def test_resources_are_opened_where_the_step_runs(self, session: Session) -> None:
        done = self._run(session, writing)
        assert self._value(session, done, "write") == ["write", session.workspace.environment, "running", "True"]
        assert session.workspace.tables.read("numbers", 0)["number"].to_list() == [3]

    def test_transient_error_is_retried(self, session: Session, tmp_path: Path) -> None:
        done = self._run(session, run_flaky, folder=str(tmp_path), fails=1)
        (record,) = self._steps(session, done).values()
        assert (record.state, record.attempt) == ("ran", 2)
        folder = tmp_path / "again"
        folder.mkdir()
        _, failed = self._try(session, run_flaky, folder=str(folder), fails=9)
        assert isinstance(failed, Transient)
        assert len(list(folder.iterdir())) == 3

    def test_failure_of_a_step_is_isolated(self, session: Session) -> None:
        for how, kind, text in _FAILURES:
            if "its process" in how and not self.isolated:
                continue  # without a separate process, the run fails with the step
            failed_run, failed = self._try(session, misbehaving, how=how)
            assert isinstance(failed, kind), how
            assert text in str(failed)
            assert failed.cure
            assert failed_run.state == "failed"
            steps = self._steps(session, failed_run)
            assert (steps["before"].state, steps["misbehave"].state) in (("ran", "failed"), ("cached", "failed")), how
            assert "after" not in steps
            assert "Traceback" in steps["misbehave"].log or kind is not StepFailed
        done = self._run(session, misbehaving, how="behaves")
        assert self._steps(session, done)["before"].state == "cached"

    def test_the_beginning_and_the_end_of_the_printed_text_are_kept(self, session: Session) -> None:
        done = self._run(session, printing, lines=20_000)
        (printed,) = self._steps(session, done).values()
        assert printed.log.rstrip().endswith("the end")
        assert "near the end" in printed.log
        assert len(printed.log) < 5_000
        log = session.workspace.blobs.get(printed.log_blob).decode()
        assert log.startswith("the beginning")
        assert "characters are omitted" in log
        assert len(log) < 400_000

    def test_forked_child_of_a_step_does_not_continue_the_run(self, session: Session) -> None:
        done = self._run(session, forking)
        assert self._value(session, done, "fork") == 1
        assert len(session.workspace.ledger.steps.find(run=done.id)) == 1

    def test_branches_run_in_parallel(self, session: Session, tmp_path: Path) -> None:
        if self.wide:
            done = self._run(session, meeting, folder=str(tmp_path))
            assert {record.state for record in self._steps(session, done).values()} == {"ran"}

    def test_failed_run_resumes_at_the_failed_step(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMILL_TEST_HARM", "1")
        (session.project.folder / "pipeline.py").write_text("from tidemill.testing.engines import mapped\n")
        failed, error = self._try(session, mapped)
        assert isinstance(error, StepFailed)
        for engine in session.engines.values():
            engine.close()
        monkeypatch.delenv("TIDEMILL_TEST_HARM")
        done, error = resume(session, failed.id)
        assert (error, done.state, done.id) == (None, "done", failed.id)
        assert [attempt.state for attempt in done.attempts] == ["failed"]
        assert self._value(session, done, "total") == 32
        names = [record.step for record in session.workspace.ledger.steps.find(run=done.id)]
        assert names.count("numbers") == 1
        assert names.count("double[2]") == 2
