"""Captures what a step prints and logs: the beginning and the end of the text, with a bounded size."""

import io
import logging
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from tidemill.credentials import Mask

_HEAD, _TAIL = 64_000, 192_000
_SHORT = 4_000


class Log:
    """A text of any length: keeps its beginning, its end, and the number of characters dropped between them."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._head_size = 0
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._dropped = 0

    def add(self, text: str) -> None:
        """Append a text."""
        if self._head_size < _HEAD:
            part, text = text[: _HEAD - self._head_size], text[_HEAD - self._head_size :]
            self._head.append(part)
            self._head_size += len(part)
        if not text:
            return
        self._tail.append(text[-_TAIL:])
        self._dropped += max(0, len(text) - _TAIL)
        self._tail_size += min(len(text), _TAIL)
        while self._tail_size - len(self._tail[0]) >= _TAIL:
            size = len(self._tail.popleft())
            self._tail_size -= size
            self._dropped += size

    @property
    def text(self) -> str:
        """The captured text."""
        gap = f"\n… {self._dropped:,} characters are omitted here …\n" if self._dropped else ""
        return "".join(self._head) + gap + "".join(self._tail)


def escape_surrogates(text: str) -> str:
    """Return the text as valid UTF-8: lone surrogates, as in file names that are not UTF-8, become escapes."""
    return text.encode(errors="backslashreplace").decode()


def shorten_log(text: str) -> str:
    """Return the end of a text, as the ledger stores it."""
    return text if len(text) <= _SHORT else f"… {len(text) - _SHORT:,} characters before\n{text[-_SHORT:]}"


class _Tee(io.TextIOBase):
    def __init__(self, log: Log, shown: io.TextIOBase) -> None:
        self._log = log
        self._shown = shown
        self._mask = Mask()

    def write(self, text: str) -> int:
        hidden = self._mask.hide(text)
        self._log.add(hidden)
        self._shown.write(hidden)
        return len(text)

    def flush(self) -> None:
        self._shown.flush()

    def isatty(self) -> bool:
        return self._shown.isatty()

    def fileno(self) -> int:
        return self._shown.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property there too
        return getattr(self._shown, "encoding", None) or "utf-8"


class _Records(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s  %(message)s"))
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.add(self.format(record) + "\n")


@contextmanager
def captured() -> Iterator[Log]:
    """Capture what this process prints and logs in the block, and show it on stderr: stdout belongs to the command."""
    log = Log()
    before = sys.stdout, sys.stderr
    handler = _Records(log)
    root = logging.getLogger()
    sys.stdout = sys.stderr = _Tee(log, sys.stderr)  # type: ignore[arg-type]  # a text stream
    root.addHandler(handler)
    try:
        yield log
    finally:
        root.removeHandler(handler)
        sys.stdout, sys.stderr = before
