"""The program of the child process that reads a workbook: `workbook_process NAME MEMORY_MB`.

It reads the bytes of the workbook from its standard input, and writes the table to its standard output in the format of
Arrow. An error is one line of JSON on standard error.
"""

import json
import resource
import sys
from io import BytesIO

from tidemill.data.reading.workbooks import parse_workbook
from tidemill.errors import Unreadable

REFUSED = 3


def main(name: str, memory_mb: int) -> int:
    """Read a workbook with a limit on the memory of this process beyond what its imports need."""
    with open("/proc/self/statm") if sys.platform == "linux" else BytesIO(b"0 0 0 0 0 0") as status:  # noqa: PTH123
        used = int(status.read().split()[5]) * resource.getpagesize()
    most = used + memory_mb * 1_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        frame = parse_workbook(sys.stdin.buffer.read(), name)
    except Unreadable as error:
        print(json.dumps([error.problem, error.cure]), file=sys.stderr)
        return REFUSED
    frame.write_ipc(sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
