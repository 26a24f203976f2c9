"""The engine: what stops, fails, interrupts or retries a run, and what the ledger says of it then."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.flow.kit import NOON, Mill
from tidemill.clock import VirtualClock
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.errors import ConfigurationError, DataError, InputError, StepFailed, Stopped, Transient
from tidemill.flow.engine import resume, sweep


@step
def start(number: int) -> int:
    return number + 1


@step
def judge(number: int, limit: int) -> Verdict:
    bad = number > limit
    return Verdict(
        check="gate",
        subject="late",
        outcome="fail" if bad else "pass",
        action="stop" if bad else "proceed",
        reason=f"{number} of {limit}",
    )


@step
def release(number: int, verdict: Verdict) -> int:
    return number


@pipeline
def gated(number: int, limit: int = 5) -> None:
    made = start(number)
    release(made, judge(made, limit))


def test_a_verdict_stops_the_run(mill: Mill) -> None:
    run, error = mill.try_to_run(gated, number=9)
    assert isinstance(error, Stopped)
    assert error.exit_code == 3
    assert "10 of 5" in str(error)
    assert (run.state, run.ended, run.error) == ("stopped", NOON, error.problem)
    assert mill.states(run) == {"start": "ran", "judge": "ran"}
    assert {name: step.stops for name, step in mill.steps(run).items()} == {"start": False, "judge": True}
    (verdict,) = mill.books.verdicts.find(run=run.id)
    assert (verdict.outcome, verdict.model) == ("fail", "")
    events = {one.kind: one.payload for one in mill.books.events.find()}
    assert events["verdict"]["action"] == "stop"
    assert events["run"]["state"] == "stopped"


def test_a_cached_verdict_stops_again_and_a_passing_one_does_not(mill: Mill) -> None:
    mill.try_to_run(gated, number=9)
    run, error = mill.try_to_run(gated, number=9)
    assert isinstance(error, Stopped)
    assert mill.states(run) == {"start": "cached", "judge": "cached"}
    assert len(mill.books.verdicts.find(run=run.id)) == 1
    assert mill.states(mill.run(gated, number=9, limit=50)) == {"start": "cached", "judge": "ran", "release": "ran"}


def test_a_failing_step_keeps_its_traceback_and_the_work_before_it(mill: Mill, tmp_path: Path) -> None:
    marker = str(tmp_path / "mended")

    @step
    def shaky(number: int, marker: str) -> int:
        if not Path(marker).exists():
            raise ZeroDivisionError("division by the tide")
        return number

    @pipeline
    def shaking() -> None:
        release(shaky(start(1), marker), judge(1, 5))

    run, error = mill.try_to_run(shaking)
    assert isinstance(error, StepFailed)
    assert (error.step, error.exit_code) == ("shaky", 1)
    assert "ZeroDivisionError: division by the tide" in str(error)
    assert run.id[:13] in error.cure
    failed = mill.steps(run)["shaky"]
    assert failed.state == "failed"
    assert 'raise ZeroDivisionError("division by the tide")' in failed.log
    assert __file__ in failed.log
    assert failed.seconds is not None
    assert mill.books.runs.get(run.id).state == "failed"
    assert list(mill.states(run)) == ["start", "shaky"]

    Path(marker).touch()
    assert mill.states(mill.run(shaking)) == {"start": "cached", "shaky": "ran", "judge": "ran", "release": "ran"}


def test_an_error_of_the_house_keeps_its_kind_and_names_the_step(mill: Mill) -> None:
    @step
    def read() -> int:
        raise DataError("rows.csv is empty", "give rows")

    @pipeline
    def reading() -> None:
        read()

    run, error = mill.try_to_run(reading)
    assert type(error) is DataError
    assert error.exit_code == 2
    assert error.problem == "step 'read': rows.csv is empty"
    assert mill.states(run) == {"read": "failed"}


def test_a_step_that_leaves_the_process_fails(mill: Mill) -> None:
    @step
    def leave() -> int:
        raise SystemExit("bye")

    @pipeline
    def leaving() -> None:
        leave()

    run, error = mill.try_to_run(leaving)
    assert isinstance(error, StepFailed)
    assert mill.books.runs.get(run.id).state == "failed"


def flaky(folder: Path, error: type[Exception], fails: int, retries: int) -> object:
    """A pipeline of one step that fails so often before it works; each attempt leaves a file."""
    place = str(folder)

    @step(retries=retries)
    def fetch(place: str, fails: int) -> int:
        tries = len(list(Path(place).glob("try-*")))
        (Path(place) / f"try-{tries}").touch()
        if tries < fails:
            raise error("the source is asleep")
        return tries

    @pipeline
    def fetching() -> None:
        fetch(place, fails)

    return fetching


def test_what_is_transient_is_tried_again_after_a_pause(mill: Mill, tmp_path: Path) -> None:
    run = mill.run(flaky(tmp_path, Transient, fails=2, retries=2))  # type: ignore[arg-type]
    assert mill.states(run) == {"fetch": "ran"}
    assert len(list(tmp_path.glob("try-*"))) == 3
    assert mill.session.clock.now() > NOON


def test_retries_end(mill: Mill, tmp_path: Path) -> None:
    run, error = mill.try_to_run(flaky(tmp_path, Transient, fails=9, retries=2))  # type: ignore[arg-type]
    assert isinstance(error, Transient)
    assert mill.states(run) == {"fetch": "failed"}
    assert len(list(tmp_path.glob("try-*"))) == 3


def test_what_is_terminal_is_not_tried_again(mill: Mill, tmp_path: Path) -> None:
    _, error = mill.try_to_run(flaky(tmp_path, ValueError, fails=1, retries=5))  # type: ignore[arg-type]
    assert isinstance(error, StepFailed)
    assert len(list(tmp_path.glob("try-*"))) == 1
    assert mill.session.clock.now() == NOON


def test_ctrl_c_interrupts_and_what_was_done_is_kept(mill: Mill, tmp_path: Path) -> None:
    marker = str(tmp_path / "go")

    @step
    def wait(number: int, marker: str) -> int:
        if not Path(marker).exists():
            raise KeyboardInterrupt
        return number

    @pipeline
    def waiting() -> None:
        wait(start(1), marker)

    with pytest.raises(KeyboardInterrupt):
        mill.try_to_run(waiting)
    (run,) = mill.books.runs.find()
    assert (run.state, run.ended, run.interruption) == ("interrupted", NOON, "signal")
    Path(marker).touch()
    assert mill.states(mill.run(waiting)) == {"start": "cached", "wait": "ran"}


def test_parameters_are_read_as_their_types(mill: Mill) -> None:
    @step
    def show(value: str) -> str:
        return value

    @pipeline
    def showing(depth: int, share: float, since: datetime, deep: bool = False, names: tuple[str, ...] = ()) -> None:
        assert (type(depth), type(share), type(deep)) == (int, float, bool)
        show(f"{depth} {share} {since.isoformat()} {deep} {names}")

    run = mill.run(showing, depth="6", share="0.5", since="2013-01-01T00:00:00", deep="true", names=["a"])
    assert mill.value(run, "show").decode("utf-8-sig") == "6 0.5 2013-01-01T00:00:00+00:00 True ('a',)"
    assert run.params["since"] == "2013-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depth": "deep"}, "'depth'.*int"),
        ({"depth": 1.5}, "'depth'.*int"),
        ({"depth": None}, "'depth'.*int"),
        ({"dept": 1}, "no parameter 'dept'"),
        ({}, "needs the parameter 'depth'"),
    ],
)
def test_parameters_that_do_not_fit_leave_no_run(mill: Mill, given: dict[str, object], message: str) -> None:
    @pipeline
    def training(depth: int) -> None:
        start(depth)

    with pytest.raises(InputError, match=message) as raised:
        mill.try_to_run(training, **given)
    assert raised.value.cure
    assert mill.books.runs.find() == []


def test_numbers_that_are_not_finite_are_distinguished_and_the_run_continues_with_them(mill: Mill) -> None:
    failing = [True]

    @step
    def show(value: float, others: list[float | None]) -> str:
        return f"{value} {others}"

    @step(cache=False)
    def stumble() -> int:
        if failing:
            raise ValueError("not today")
        return 1

    @pipeline
    def showing(value: float, others: list[float | None]) -> None:
        show(value, others)
        stumble()

    for value in ("nan", "inf", "-inf", "1.0"):
        for others in ("[null, 1.0]", '["nan", 1.0]', '[1.0, "inf"]', '[null, "nan"]', '["nan", null]'):
            run, error = mill.try_to_run(showing, value=value, others=others)
            wanted = others.replace('"', "").replace("null", "None")
            assert mill.value(run, "show").decode("utf-8-sig") == f"{value} {wanted}"
    mill.session.project.code.pipelines["showing"] = showing
    failing.clear()
    done, error = resume(mill.session, run.id)
    assert error is None
    assert mill.states(done) == {"show": "ran", "stumble": "ran"}
    assert mill.value(done, "show") == mill.value(run, "show")


def test_lists_may_be_given_as_json(mill: Mill) -> None:
    @step
    def show(value: list[int]) -> str:
        return f"{value}"

    @pipeline
    def showing(values: list[int]) -> None:
        show(values)

    assert mill.value(mill.run(showing, values="[1, 2]"), "show").decode("utf-8-sig") == "[1, 2]"
    with pytest.raises(InputError, match="must be of type") as raised:
        mill.run(showing, values="1,2")
    assert "as JSON" in raised.value.cure


def test_plain_data_of_another_type_than_promised_fails_the_step(mill: Mill) -> None:
    @step
    def count() -> int:
        return "three"  # type: ignore[return-value]

    @pipeline
    def counting() -> None:
        count()

    run, error = mill.try_to_run(counting)
    assert "step 'count': it returned 'three', but its annotation promises int" in str(error)
    assert run.state == "failed"


def test_a_run_whose_end_cannot_be_written_is_found_out(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    @pipeline
    def starting() -> None:
        start(1)

    def away(*_: object) -> None:
        raise OSError("the ledger is away")

    with monkeypatch.context() as patch:
        patch.setattr("tidemill.flow.record.Recorder.close", away)
        with pytest.raises(OSError, match="away"):
            mill.run(starting)
    (swept,) = sweep(mill.session)
    assert (swept.state, swept.error, swept.interruption) == ("interrupted", "its process died", "crash")
    mill.session.project.code.pipelines["starting"] = starting
    done, error = resume(mill.session, swept.id)
    assert (done.state, error, sweep(mill.session)) == ("done", None, [])
    assert (done.interruption, [one.interruption for one in done.attempts]) == ("", ["crash"])


def test_now_and_the_policy_are_filled_in(mill: Mill) -> None:
    @step
    def note(name: str, until: datetime, context: Context) -> str:
        return f"{name} {until.date()} {context.model}"

    @pipeline
    def noting(policy: ModelPolicy, until: datetime) -> None:
        note(policy.name, until)

    run = mill.run(noting)
    assert mill.value(run, "note").decode("utf-8-sig") == "late 2013-03-01 late"
    assert (run.model, run.params) == ("late", {"until": "2013-03-01T12:00:00Z"})
    with pytest.raises(InputError, match="no model 'later'"):
        mill.try_to_run(noting, model="later")


def test_a_step_that_misses_an_input_is_refused_before_anything_runs(mill: Mill) -> None:
    @pipeline
    def missing() -> None:
        start(1)
        judge(3)

    with pytest.raises(ConfigurationError, match=r"'judge'.*misses its input 'limit'"):
        mill.try_to_run(missing)
    assert mill.books.runs.find() == []


def test_a_run_shows_its_code_and_software(mill: Mill, tmp_path: Path) -> None:
    run = mill.run(gated, number=1)
    assert set(run.software) >= {"python", "polars", "lightgbm"}
    assert len(run.code["digest"]) == 64
    assert run.code["policy"] == mill.session.project.policy_digest
    assert run.cause == {"by": "hand"}
    (tmp_path / "pipeline.py").write_text("x = 1\n")
    other = Mill(tmp_path, clock=VirtualClock(datetime.combine(date(2013, 3, 2), datetime.min.time(), UTC)))
    assert other.run(gated, number=1).code["digest"] != run.code["digest"]
