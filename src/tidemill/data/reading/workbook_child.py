"""Reads a workbook in a child process with limits: a few bytes can describe a sheet that fills any memory."""

import json
import subprocess
import sys
from io import BytesIO

import polars as pl

from tidemill.data.reading.bounds import Bounds
from tidemill.data.reading.workbook_process import REFUSED
from tidemill.errors import Unreadable

_PROGRAM = "tidemill.data.reading.workbook_process"
_SECONDS = 300.0
_CURE = "save the sheet with the table as CSV or Parquet"


def parse_in_child(content: bytes, name: str, bounds: Bounds) -> pl.DataFrame:
    """Return the rows of a workbook as `parse_workbook` does.

    Raises
    ------
    Unreadable
        as `parse_workbook` does, and if the child needs more time than five minutes, or its library ends it.
    TooMuchMemory
        if the child needs more memory than the bounds allow.
    """
    command = [sys.executable, "-P", "-m", _PROGRAM, name, str(bounds.memory_mb)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{name} cannot be read within {_SECONDS:.0f} s", _CURE) from None
    if done.returncode == 0:
        return pl.read_ipc(BytesIO(done.stdout))
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    if done.returncode == REFUSED:
        raise Unreadable(*json.loads(last))
    if any(word in done.stderr for word in (b"MemoryError", b"memory allocation", b"bad_alloc", b"out of memory")):
        raise bounds.explain_sheet(name)
    how = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"failed: {last[:200]}"
    raise Unreadable(f"{name} cannot be read as xlsx: the process that read it {how}", _CURE)
