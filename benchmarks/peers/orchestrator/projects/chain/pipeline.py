"""A chain of steps that do nothing; the first step writes its start time."""

import os
import time
from pathlib import Path

from tidemill import pipeline, step


@step(cache=False)
def pass_on(state: dict[str, int]) -> dict[str, int]:
    """Return the state with the next number."""
    note = os.environ.get("BENCH_FIRST")
    if note and not Path(note).exists():
        Path(note).write_text(str(time.time_ns()))
    return {"number": state["number"] + 1}


@pipeline
def chain(length: int = 5) -> None:
    """Run `length` steps."""
    state = {"number": 0}
    for _ in range(length):
        state = pass_on(state)
