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
_NOBODY = 65534


def in_child(
    program: str, *, limits: Mapping[int, int] | None = None, read_only: Path | None = None, check: bool = True
) -> str:
    """What a program prints in a process of its own.

    `limits` are of the resource module: a file may not grow beyond RLIMIT_FSIZE, as on a full disk. `read_only` is
    a folder in which it may not write: its modes are taken away, and for root, whom no mode holds, the right to
    pass them by, once everything is imported.
    """
    text = _PRELUDE + textwrap.dedent(program)
    if read_only is not None:
        _close(read_only)
        # Nobody may not even read the packages: they are imported before.
        imports = [line for line in text.splitlines() if line.startswith(("from ", "import "))]
        become_nobody = [f"os.setuid({_NOBODY})"] if os.geteuid() == 0 else []
        text = "\n".join([*imports, *become_nobody, text])

    def prepare() -> None:
        for limit, value in (limits or {}).items():
            resource.setrlimit(limit, (value, value))

    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, preexec_fn=prepare, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def _close(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in folder.parents:
        # pytest's folders are closed to other users; nobody must at least pass through.
        if parent.owner() == Path.home().owner() and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
