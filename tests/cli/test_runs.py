"""Runs from the command line: taken up again, cancelled, tried in part, and done again, in real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

CODE = """
import os
import time
from pathlib import Path

from tidemill import pipeline, step
from tidemill.core.run import Metrics

PLACE = Path(__file__).parent


@step
def load(rows: int) -> list[int]:
    print("loading")
    return list(range(rows))


@step
def fit(numbers: list[int], depth: int) -> Metrics:
    (PLACE / "fitting").write_text(str(os.getpid()))
    while (PLACE / "wait").exists():
        time.sleep(0.01)
    if (PLACE / "fail").exists():
        raise ValueError("the tide is out")
    return Metrics(values={"loss": sum(numbers) / depth}, about="test")


@step
def report(metrics: Metrics, numbers: list[int]) -> str:
    return f"{metrics.values['loss']} of {len(numbers)}"


@pipeline
def training(depth: int = 2, rows: int = 4) -> None:
    numbers = load(rows)
    report(fit(numbers, depth), numbers)
"""


class Place:
    """A project, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tidemill.toml").write_text('[project]\nname = "kit"\n')
        (folder / "pipeline.py").write_text(CODE)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tidemill", *words],
            cwd=self.folder,
            env=os.environ | {"TIDEMILL_PROJECT": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, *words: str, code: int = 0) -> str:
        """What a command printed, stdout first; it must end with that code."""
        running = self.start(*words)
        out, err = running.communicate(timeout=300)
        assert running.returncode == code, (words, out, err)
        assert "Traceback" not in err
        return out + err

    def json(self, *words: str, code: int = 0) -> Any:
        running = self.start(*words, "--json")
        out, err = running.communicate(timeout=300)
        assert running.returncode == code, (words, out, err)
        return json.loads(out)

    def at_fit(self, *words: str) -> subprocess.Popen[str]:
        """A command whose run is in its step `fit` now."""
        (self.folder / "wait").touch()
        (self.folder / "fitting").unlink(missing_ok=True)
        running = self.start(*words)
        while not (self.folder / "fitting").exists() or not (self.folder / "fitting").read_text():
            assert running.poll() is None, running.communicate()
            time.sleep(0.01)
        return running

    def newest(self) -> Any:
        return self.json("runs", "list")[0]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_failed_run_is_taken_up_with_edited_code(place: Place) -> None:
    (place.folder / "fail").touch()
    message = place.do("run", "training", code=1)
    assert "the tide is out" in message
    failed = place.newest()
    assert f"tidemill runs resume {failed['id'][:13]}" in message
    (place.folder / "pipeline.py").write_text(
        CODE.replace("sum(numbers) / depth", "sum(numbers)").replace("fail", "no")
    )
    message = place.do("runs", "resume", failed["id"][:18])
    assert "finished in an earlier attempt" in message
    done = place.json("runs", "show", failed["id"])
    assert (done["run"]["state"], done["run"]["metrics"]) == ("done", {"test_loss": 6.0})
    assert [one["state"] for one in done["run"]["attempts"]] == ["failed"]
    assert [(one["step"], one["state"]) for one in done["steps"]] == [
        ("load", "ran"), ("fit", "failed"), ("fit", "ran"), ("report", "ran"),
    ]  # fmt: skip
    assert "is done" in place.do("runs", "resume", failed["id"], code=2)


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_ctrl_c_leaves_a_run_that_continues(place: Place, engine: str) -> None:
    running = place.at_fit("run", "training", "--engine", engine)
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "tidemill runs resume" in message
    left = place.newest()
    assert left["state"] == "interrupted"
    (place.folder / "wait").unlink()
    assert place.json("runs", "resume", left["id"])["state"] == "done"


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_a_run_whose_process_was_killed_is_found_out_and_continues(place: Place, engine: str) -> None:
    running = place.at_fit("run", "training", "--engine", engine)
    assert place.newest()["state"] == "running"
    running.kill()
    running.communicate()
    left = place.newest()
    assert (left["state"], left["error"]) == ("interrupted", "its process died")
    (place.folder / "wait").unlink()
    assert place.json("runs", "resume", left["id"])["state"] == "done"


def test_a_run_is_cancelled_and_can_continue(place: Place) -> None:
    running = place.at_fit("run", "training")
    at_work = place.newest()
    assert "is running" in place.do("runs", "resume", at_work["id"], code=1)
    assert "is cancelled" in place.do("runs", "cancel", at_work["id"])
    running.communicate(timeout=300)
    assert running.returncode == 130
    assert place.newest()["state"] == "cancelled"
    assert "is not running" in place.do("runs", "cancel", at_work["id"], code=2)
    (place.folder / "wait").unlink()
    assert place.json("runs", "resume", at_work["id"])["state"] == "done"


def test_one_step_runs_on_what_a_past_run_gave_it(place: Place) -> None:
    past = place.json("run", "training", "-p", "depth=3")
    (place.folder / "pipeline.py").write_text(CODE.replace("sum(numbers) / depth", "100 * sum(numbers) / depth"))
    alone = place.json("run", "--step", "fit", "--from", past["id"])
    assert (alone["state"], alone["metrics"]) == ("done", {"test_loss": 200.0})
    assert list(alone["graph"]) == ["fit"]
    assert "has no step 'fitt'" in place.do("run", "--step", "fitt", "--from", past["id"], code=2)
    assert "either a pipeline, or --step" in place.do("run", "training", "--step", "fit", code=2)


def test_a_run_comes_out_the_same_by_the_code_that_it_had(place: Place) -> None:
    past = place.json("run", "training", "-p", "depth=3")
    (place.folder / "pipeline.py").write_text(CODE.replace("sum(numbers) / depth", "0.0"))
    found = place.json("runs", "reproduce", past["id"])
    assert found["same"]
    assert {one["step"]: one["verdict"] for one in found["steps"]} == dict.fromkeys(("load", "fit", "report"), "same")
    assert found["metrics"] == {"test_loss": [2.0, 2.0]}


def test_a_run_that_depends_on_the_world_comes_out_otherwise_and_prints_by_how_much(place: Place) -> None:
    reported = CODE.replace("sum(numbers) / depth", "float((PLACE / 'world').read_text())")
    (place.folder / "pipeline.py").write_text(reported)
    (place.folder / "world").write_text("0.5")
    past = place.json("run", "training")
    (place.folder / "world").write_text("0.5001")
    assert "does not have the same outputs" in place.do("runs", "reproduce", past["id"], code=1)
    found = place.json("runs", "reproduce", past["id"], "--tolerance", "0.01")
    fit = next(one for one in found["steps"] if one["step"] == "fit")
    assert (found["same"], fit["verdict"], round(fit["apart"], 6)) == (True, "within tolerance", 0.0001)
