"""The worker of the engines `processes` and `container`: performs tasks until its parent stops it or dies."""

import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from tidemill.errors import TidemillError
from tidemill.flow.capture import Log
from tidemill.flow.perform import Performer
from tidemill.flow.session import Session
from tidemill.flow.tasks import Task, TaskFailure, TaskOutcome
from tidemill.host.programs import become_worker, exit_with_parent

# Marks the end of the output of a task: the parent then has read all of it.
FINISHED = b"\0ended\0\n"
# Sent when a task starts: the start of the process before it does not count for the timeout.
STARTED = "started"


def work(reopen: Callable[[], Session], tasks: Any, printed: Any) -> None:
    """Perform tasks from the pipe of a parent process and send an outcome for each; print to another pipe."""
    exit_with_parent()  # another process may resume the run and run the same step
    perform_tasks(reopen, tasks.recv, tasks.send, printed.fileno())


def perform_tasks(
    reopen: Callable[[], Session], receive: Callable[[], Task | None], send: Callable[[Any], None], printed: int
) -> None:
    """Perform received tasks and send an outcome for each; everything printed goes to an open file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    _print_to(printed)
    become_worker()
    performer: Performer | None = None
    run = ""
    startup_error: Exception | None = None
    try:
        performer = Performer(_open(reopen), _no_capture)
    except Exception as error:  # noqa: BLE001 - reported as the failure of each task
        startup_error = error
    while True:
        try:
            task = receive()
            if task is None:
                return
            if performer is None:
                raise startup_error or AssertionError
            if task.context.run != run:
                performer.forget()
                run = task.context.run
            send(STARTED)
            outcome = _make_picklable(performer.perform(task))
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 - reported as the failure of the task
            outcome = _make_picklable(TaskOutcome(failure=_as_failure(error)))
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(2, FINISHED)
        send(outcome)


def _open(reopen: Callable[[], Session]) -> Session:
    """Return the session with the code of the project loaded: a task refers to its step by module and name."""
    session = reopen()
    _ = session.project.code
    return session


def _as_failure(raised: Exception) -> TaskFailure:
    error = raised if isinstance(raised, TidemillError) else None
    if isinstance(raised, AttributeError | ImportError | pickle.PickleError):
        error = TidemillError(
            f"the worker process cannot import the step: {raised}",
            "define steps at the top level of pipeline.py or of a module",
        )
    return TaskFailure(text=f"{type(raised).__name__}: {raised}", traceback="", error=error)


def _make_picklable(outcome: TaskOutcome) -> TaskOutcome:
    """Return the outcome without the raised exception, so that it can be pickled."""
    outcomes = {node: _make_picklable(transient) for node, transient in outcome.transient.items()}
    if outcome.failure is None:
        return replace(outcome, transient=outcomes)
    failure = replace(outcome.failure, raised=None)
    try:
        pickle.loads(pickle.dumps(failure.error))
    except Exception:  # noqa: BLE001 - an error class of a user may contain anything
        failure = replace(failure, error=None)
    return replace(outcome, transient=outcomes, failure=failure)


def _print_to(printed: int) -> None:
    """Send everything that this process prints to its parent, including the output of native libraries."""
    for number in (1, 2):
        os.dup2(printed, number)
    sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115 - open as long as the process
    sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115 - open as long as the process
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s  %(message)s"))
    handler.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)


@contextmanager
def _no_capture() -> Iterator[Log]:
    """Capture nothing: the parent captures the output of this process."""
    yield Log()
