"""Named points at which a test can kill the process, to check that nothing is lost: `TIDEMILL_FAULT="run closes"`.

With `TIDEMILL_FAULT_ONCE=FILE`, only the first process that comes there is killed; it creates the file.
"""

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
        if _passed[point] == int(times or 1) and _is_first():
            os.kill(os.getpid(), signal.SIGKILL)


def _is_first() -> bool:
    """Return whether this process is the first of several that share a fault."""
    mark = os.environ.get("TIDEMILL_FAULT_ONCE")
    if not mark:
        return True
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
