"""The lease of an environment: of two daemons, the second waits until the first is gone, however it went."""

import fcntl
import os
from pathlib import Path
from typing import IO


def take_lease(folder: Path) -> IO[str] | None:
    """The lease of the environment whose state is in `folder`, held until the file is closed; None if it is taken.

    The system frees it when the process ends, also by `kill -9`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "daemon.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file
