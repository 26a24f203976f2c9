"""Runs one process and tells what it took: wall time, processor time, memory, and what it said."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Missing(Exception):
    """There is no figure, for the reason that the message gives."""


class Ended(NamedTuple):
    """A process that is over; `cpu` counts it and the children that it waited for, `peak` the largest of them (MiB)."""

    seconds: float
    cpu: float
    peak: float
    code: int
    out: str
    err: str


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float = 600) -> Ended:
    """Run a command to its end; with its whole group it is killed after `limit` seconds."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, process_group=0
        )
        alarm = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Ended(
            seconds,
            used.ru_utime + used.ru_stime,
            used.ru_maxrss / 1024,
            process.returncode,
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
        )


def succeeded(ended: Ended) -> Ended:
    """The same, if it succeeded.

    Raises
    ------
    Missing
        with the reason that it gave (exit code 3), or with how it failed.
    """
    if ended.code:
        raise Missing(reason(ended.code, ended.err or ended.out))
    return ended


def reason(code: int, said: str) -> str:
    """Why a process ended as it did, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return lines[-1] if code == 3 else f"failed ({code}): {lines[-1][:160]}"
