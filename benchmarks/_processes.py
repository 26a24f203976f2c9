"""Runs one process and measures its wall time, processor time and memory; returns its output."""

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
    """There is no figure; the message is the reason."""


class FinishedProcess(NamedTuple):
    """A finished process; `cpu` includes the children that it waited for, `peak` is the largest process (MiB)."""

    seconds: float
    cpu: float
    peak: float
    code: int
    out: str
    err: str


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float = 600) -> FinishedProcess:
    """Run a command until it exits; after `limit` seconds, kill it with its whole process group."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, process_group=0
        )
        alarm = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return FinishedProcess(
            seconds,
            used.ru_utime + used.ru_stime,
            used.ru_maxrss / 1024,
            process.returncode,
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
        )


def require_success(process: FinishedProcess) -> FinishedProcess:
    """Return the process if it succeeded.

    Raises
    ------
    Missing
        if it failed; for exit code 3, the message is its last line.
    """
    if process.code:
        raise Missing(describe_failure(process.code, process.err or process.out))
    return process


def describe_failure(code: int, output: str) -> str:
    """Return the reason of a failure in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    return lines[-1] if code == 3 else f"failed ({code}): {lines[-1][:160]}"
