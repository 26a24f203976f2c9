"""What the tests of the stores share: child processes with little room, or without the right to write."""

import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

_PRELUDE = """
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from tidemill.errors import TidemillError

def explain(act):
    try:
        act()
    except TidemillError as raised:
        print(f"{type(raised).__name__}: {raised}")
        assert raised.cure
    else:
        print("it was done")

"""
_RIGHTS = "-dac_override,-dac_read_search"


def in_child(
    program: str, *, limits: Mapping[int, int] | None = None, read_only: Path | None = None, check: bool = True
) -> str:
    """What a program prints in a process of its own.

    `limits` are of the resource module: a file may not grow beyond RLIMIT_FSIZE, as on a full disk. `read_only` is
    a folder in which it may not write: its modes are taken away, and for root, whom no mode holds, the right to
    pass them by.
    """
    command = [sys.executable, "-c", _PRELUDE + textwrap.dedent(program)]
    if read_only is not None:
        for path in (read_only, *read_only.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            command = ["setpriv", f"--bounding-set={_RIGHTS}", f"--inh-caps={_RIGHTS}", *command]

    def prepare() -> None:
        for limit, value in (limits or {}).items():
            resource.setrlimit(limit, (value, value))

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=prepare, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout
