"""A worker process of a model, as the service sees it: sends rows, receives predictions within a time, ends it."""

import io
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import polars as pl

from tidemill.errors import DataError, TidemillError
from tidemill.models.predictions import Predictions
from tidemill.serving.fence_messages import Answer, read_message, write_message

_DECODER = msgspec.msgpack.Decoder(Answer)


class WorkerEnded(Exception):
    """A worker was ended or ended itself; `kind` is the reason in a word, `reason` follows "it" in a sentence."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Worker:
    """One process; it does one thing at a time."""

    def __init__(self, process: int, channel: socket.socket, find_ending: Callable[[int], dict[str, Any]]) -> None:
        self.process = process
        self._channel = channel
        self._find_ending = find_ending
        # A descriptor of the process: another process that gets the same id is never killed.
        self._descriptor = _open_process(process)
        self._is_closed = False
        self._exit = select.poll()
        if self._descriptor >= 0:
            self._exit.register(self._descriptor, select.POLLIN)

    @property
    def has_exited(self) -> bool:
        """Return whether the process ended while nothing was asked of it."""
        return self._is_closed or bool(self._exit.poll(0))

    def load(self, content: bytes, seconds: float) -> list[str]:
        """Load a package; return the libraries that it imported. Raise as `predict`."""
        return self._ask(content, seconds, "while it was loaded").modules

    def predict(self, frame: pl.DataFrame, seconds: float) -> Predictions:
        """Predict rows.

        Raises
        ------
        WorkerEnded
            if the process did not answer in time, used too much memory, or ended itself; it is ended now.
        TidemillError
            if the model raised one.
        RuntimeError
            if the model raised another exception, with its traceback.
        """
        sink = io.BytesIO()
        frame.write_ipc_stream(sink)
        answer = self._ask(sink.getbuffer(), seconds, "")
        if not answer.shape:
            return Predictions(answer.values, None)
        try:
            table = np.frombuffer(answer.probabilities, dtype=np.float64).reshape(answer.shape)
        except ValueError:
            raise self._end("answer", "sent an answer that is no table") from None
        return Predictions(answer.values, table)

    def close(self) -> None:
        """End the process at once, whatever it does."""
        if self._is_closed:
            return
        self._is_closed = True
        with suppress(ProcessLookupError, OSError):
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            else:
                os.kill(self.process, signal.SIGKILL)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        # A thread that waits for the process is woken; it then closes the socket.
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _ask(self, content: bytes | memoryview, seconds: float, when: str) -> Answer:
        deadline = time.monotonic() + seconds
        try:
            write_message(self._channel, content, deadline)
            answer = _DECODER.decode(read_message(self._channel, deadline))
        except TimeoutError:
            raise self._end("timeout", f"did not answer within {seconds:g} s {when}".rstrip()) from None
        except (EOFError, OSError):
            raise self._find_reason(when) from None
        except (msgspec.DecodeError, MemoryError):
            raise self._end("answer", "sent an answer that cannot be read") from None
        if answer.ending == "memory":
            raise self._end("memory", f"used more memory than its limit {when}".rstrip())
        if answer.error == "data":
            raise DataError(answer.problem, answer.cure)
        if answer.error == "tidemill":
            raise TidemillError(answer.problem, answer.cure)
        if answer.error:
            raise ModelError(answer.problem, answer.trace)
        return answer

    def _find_reason(self, when: str) -> WorkerEnded:
        """Return why the process ended itself, or was killed."""
        if self._is_closed:
            return WorkerEnded("stopped", "was stopped with the service")
        ending = self._find_ending(self.process)
        code = ending.get("code")
        if ending.get("memory"):
            kind, reason = "memory", "used more memory than its limit"
        elif code is None:
            kind, reason = "exit", "closed its connection"
        elif code < 0:
            kind, reason = "signal", f"was ended by the signal {_name_signal(-code)}"
        else:
            kind, reason = "exit", f"ended itself with the exit status {code}"
        return self._end(kind, f"{reason} {when}".rstrip())

    def _end(self, kind: str, reason: str) -> WorkerEnded:
        self.close()
        self._channel.close()
        return WorkerEnded(kind, reason)


class ModelError(RuntimeError):
    """The model raised an exception; `trace` is its traceback in the worker."""

    def __init__(self, problem: str, trace: str) -> None:
        super().__init__(problem)
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.trace}"


def _open_process(process: int) -> int:
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return -1


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
