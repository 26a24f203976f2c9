"""The worker in a container: receives tasks through its standard input, and sends outcomes to its standard output."""

import os
import pickle
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tidemill.flow.engines.worker import perform_tasks
from tidemill.flow.session import Session
from tidemill.host.programs import end_own_programs


def work() -> None:
    """Open the session of the first message, and perform the tasks of the next ones.

    When the standard input ends, so does this process: another one may resume the run and run the same step.
    """
    received = Connection(os.dup(0), writable=False)
    sent = Connection(os.dup(1), readable=False)
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(received, messages.put), daemon=True).start()
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a file of the system; steps read nothing
        os.dup2(nothing.fileno(), 0)

    def receive() -> Any:
        return pickle.loads(messages.get())

    def reopen() -> Session:
        opened: Session = receive()()
        return opened

    perform_tasks(reopen, receive, sent.send, os.dup(2))


def _receive(received: "Connection", put: Callable[[bytes], None]) -> None:
    while True:
        try:
            put(received.recv_bytes())
        except (EOFError, OSError):
            end_own_programs()
            os._exit(1)
