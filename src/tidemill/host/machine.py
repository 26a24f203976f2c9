"""Asks a fresh process of an interpreter what it finds on its machine."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from tidemill.core.machine import MachineFacts

_PROGRAM = str(Path(__file__).with_name("machine_process.py"))
_SECONDS = 60.0


def read_machine(python: Path, limit: Callable[[], None] | None = None) -> MachineFacts:
    """Return what a process of this interpreter finds; `limit` runs in the process first."""
    try:
        process = subprocess.run(
            [str(python), "-I", _PROGRAM],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
            preexec_fn=limit,
        )
        return msgspec.json.decode(process.stdout, type=MachineFacts)
    except (OSError, subprocess.SubprocessError) as failure:
        return MachineFacts(error=f"{python} cannot be started: {failure}")
    except msgspec.DecodeError:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        return MachineFacts(error=f"{python} fails: {lines[-1] if lines else f'exit status {process.returncode}'}")
