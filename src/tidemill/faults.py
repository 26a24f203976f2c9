"""Named points at which a test can kill the process, to check that nothing is lost: `TIDEMILL_FAULT="run closes"`."""

import os
import signal
from collections import Counter

_passed: Counter[str] = Counter()


def maybe_crash(point: str) -> None:
    """Kill the process if `TIDEMILL_FAULT` names this point (`point#3`: at the third call)."""
    fault = os.environ.get("TIDEMILL_FAULT")
    if not fault:
        return
    name, _, times = fault.partition("#")
    if name == point:
        _passed[point] += 1
        if _passed[point] == int(times or 1):
            os.kill(os.getpid(), signal.SIGKILL)
