"""What one process made, another takes; who dies at it leaves it to the next."""

import multiprocessing
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tidemill.core.artifact import Artifact
from tidemill.core.run import StepRun
from tidemill.flow.shared import SharedResults

FORK = multiprocessing.get_context("fork")
MADE = {"output": Artifact(id="a" * 64, kind="json", size=2)}
STEP = StepRun(
    id="1",
    run="r",
    step="fit",
    position=0,
    state="ran",
    reason="",
    key="k",
    code="c",
    executor="inline",
    started=datetime(2026, 1, 1, tzinfo=UTC),
    outputs={"output": "a" * 64},
)


def elsewhere(work: Callable[[], Any]) -> Any:
    """A process that does this; it ends without a word."""

    def do() -> None:
        work()
        os._exit(0)

    process = FORK.Process(target=do)
    process.start()
    return process


def test_what_was_made_is_there_for_others(tmp_path: Path) -> None:
    mine, other = SharedResults(tmp_path), SharedResults(tmp_path)
    assert mine.get_or_claim("k") is None
    mine.publish(STEP, MADE)
    found = other.get_or_claim("k")
    assert found is not None
    assert (found.step, found.artifacts) == (STEP, MADE)


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_what_failed_is_made_by_the_next(tmp_path: Path, state: Any) -> None:
    mine, other = SharedResults(tmp_path), SharedResults(tmp_path)
    mine.get_or_claim("k")
    mine.publish(replace(STEP, state=state, outputs={}), {})
    assert other.get_or_claim("k") is None
    other.publish(STEP, MADE)
    assert mine.get_or_claim("k") is not None


def test_who_needs_it_meanwhile_waits(tmp_path: Path) -> None:
    here, there = FORK.Pipe()

    def make() -> None:
        memory = SharedResults(tmp_path)
        memory.get_or_claim("k")
        there.send("at work")
        there.recv()
        memory.publish(STEP, MADE)

    maker = elsewhere(make)
    here.recv()
    waiter = elsewhere(lambda: there.send(SharedResults(tmp_path).get_or_claim("k") is not None))
    assert not here.poll(0.2)
    here.send("end it")
    assert here.recv() is True
    maker.join()
    waiter.join()


def test_who_dies_at_it_leaves_it_to_the_one_that_waits(tmp_path: Path) -> None:
    here, there = FORK.Pipe()

    def die() -> None:
        SharedResults(tmp_path).get_or_claim("k")
        there.send("at work")
        there.recv()
        os._exit(9)

    maker = elsewhere(die)
    here.recv()
    memory = SharedResults(tmp_path)
    here.send("now")
    assert memory.get_or_claim("k") is None
    memory.publish(STEP, MADE)
    maker.join()
    assert SharedResults(tmp_path).get_or_claim("k") is not None


def test_who_makes_something_waits_for_nobody(tmp_path: Path) -> None:
    here, there = FORK.Pipe()

    def make() -> None:
        memory = SharedResults(tmp_path)
        memory.get_or_claim("k")
        there.send("at work")
        there.recv()

    maker = elsewhere(make)
    here.recv()
    memory = SharedResults(tmp_path)
    assert memory.get_or_claim("other") is None
    assert memory.get_or_claim("k") is None  # at once: the other may wait for what is made here
    here.send("end it")
    maker.join()


def test_a_child_that_a_step_forked_keeps_nobody_waiting(tmp_path: Path) -> None:
    here, there = FORK.Pipe()
    mine = SharedResults(tmp_path)
    mine.get_or_claim("k")
    child = elsewhere(there.recv)
    mine.publish(replace(STEP, state="failed", outputs={}), {})
    other = SharedResults(tmp_path)
    assert other.get_or_claim("k") is None, "it waited until the child was gone"
    other.release_claims()
    here.send("end it")
    child.join()
    assert mine.get_or_claim("k") is None, "what was left is for the next to make"
