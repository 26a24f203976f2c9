"""Steps that do nothing, each on the one before; the first one notes when it began."""

import os
import time
from pathlib import Path

from tidemill import pipeline, step


@step(cache=False)
def pass_on(state: dict[str, int]) -> dict[str, int]:
    """Count one more."""
    note = os.environ.get("BENCH_FIRST")
    if note and not Path(note).exists():
        Path(note).write_text(str(time.time_ns()))
    return {"number": state["number"] + 1}


@pipeline
def chain(length: int = 5) -> None:
    """So many steps."""
    state = {"number": 0}
    for _ in range(length):
        state = pass_on(state)
