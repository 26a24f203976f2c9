"""Named points at which a test can kill the process, to check that nothing is lost: `TIDEMILL_FAULT="run closes"`.

Several points are separated by semicolons. With `TIDEMILL_FAULT_ONCE=FILE`, only the first process that comes to a
point is killed; it adds the point to the file.
"""

import fcntl
import os
import signal
from collections import Counter
from pathlib import Path

_passed: Counter[str] = Counter()


def maybe_crash(point: str) -> None:
    """Kill the process if `TIDEMILL_FAULT` names this point (`point#3`: at the third call)."""
    faults = os.environ.get("TIDEMILL_FAULT")
    if not faults:
        return
    for fault in faults.split(";"):
        name, _, times = fault.partition("#")
        if name == point:
            _passed[point] += 1
            if _passed[point] == int(times or 1) and _is_first(point):
                os.kill(os.getpid(), signal.SIGKILL)


def _is_first(point: str) -> bool:
    """Return whether this process is the first of several that share a fault."""
    mark = os.environ.get("TIDEMILL_FAULT_ONCE")
    if not mark:
        return True
    with Path(mark).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if point in file.read().splitlines():
            return False
        file.write(f"{point}\n")
    return True
