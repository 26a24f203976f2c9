"""Messages between the service and the processes of its models: a length and the content, over a socket."""

import socket
import time
from typing import Literal

from msgspec import Struct

_LENGTH = 8
_MOST_BYTES = 1 << 31


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of a worker: predictions, or an error of the model.

    `error` is `data` if the rows do not fit, `tidemill` for another error with a cure, and `other` for any exception.
    `modules` are the libraries that were imported to load the model.
    """

    values: list[str | float] = []
    shape: tuple[int, ...] = ()
    probabilities: bytes = b""
    modules: list[str] = []
    error: Literal["", "data", "tidemill", "other"] = ""
    problem: str = ""
    cure: str = ""
    trace: str = ""
    ending: Literal["", "memory"] = ""


def write_message(channel: socket.socket, content: bytes | bytearray | memoryview, deadline: float = 0.0) -> None:
    """Send a message; raise `TimeoutError` after the deadline (monotonic seconds; 0 is none)."""
    channel.settimeout(_find_timeout(deadline))
    length = len(content).to_bytes(_LENGTH, "big")
    if len(content) < 1 << 16:
        channel.sendall(length + content)
    else:
        channel.sendall(length)
        channel.sendall(content)


def read_message(channel: socket.socket, deadline: float = 0.0) -> bytearray:
    """Receive a message.

    Raises
    ------
    TimeoutError
        after the deadline (monotonic seconds; 0 is none).
    EOFError
        if the other process closed the channel.
    """
    length = int.from_bytes(_read(channel, _LENGTH, deadline), "big")
    if length > _MOST_BYTES:
        raise EOFError(f"a message of {length} bytes")
    return _read(channel, length, deadline)


def _read(channel: socket.socket, count: int, deadline: float) -> bytearray:
    content = bytearray(count)
    view, received = memoryview(content), 0
    while received < count:
        channel.settimeout(_find_timeout(deadline))
        part = channel.recv_into(view[received:])
        if not part:
            raise EOFError
        received += part
    return content


def _find_timeout(deadline: float) -> float | None:
    if not deadline:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining
