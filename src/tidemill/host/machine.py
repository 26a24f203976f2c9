"""Asks a fresh process of an interpreter what it finds on its machine."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tidemill.core.machine import MachineFacts

_PROGRAM = str(Path(__file__).with_name("machine_process.py"))
_SECONDS = 60.0


def read_machine(command: Sequence[str], name: str, limit: Callable[[], None] | None = None) -> MachineFacts:
    """Return what a process of an interpreter finds; `limit` runs in the process first.

    `command` starts the interpreter with a program, which is that of this package if it is one word. `name` names the
    interpreter in messages.
    """
    program = ["-I", _PROGRAM] if len(command) == 1 else []
    try:
        process = subprocess.run(
            [*command, *program],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
            preexec_fn=limit,
        )
        return msgspec.json.decode(process.stdout, type=MachineFacts)
    except (OSError, subprocess.SubprocessError) as failure:
        return MachineFacts(error=f"{name} cannot be started: {failure}")
    except msgspec.DecodeError:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        return MachineFacts(error=f"{name} fails: {lines[-1] if lines else f'exit status {process.returncode}'}")
