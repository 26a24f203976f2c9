"""The worker of the engine `processes`: performs tasks until its parent tells it to leave, or is gone."""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from msgspec.structs import replace

from tidemill.errors import TidemillError
from tidemill.flow.capture import Log
from tidemill.flow.perform import Performer
from tidemill.flow.session import Session
from tidemill.flow.tasks import Failure, Outcome, Task

# Closes what a task prints, so that its parent knows when it has read all of it.
ENDED = b"\0ended\0\n"
# Says that a task begins now: what came before is the start of the process, which counts for no timeout.
BEGUN = "begun"


def work(reopen: Callable[[], Session], tasks: Any, printed: Any) -> None:
    """Perform the tasks that come, and send back an outcome for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to decide on
    _print_to(printed)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    performer: Performer | None = None
    run = ""
    broken: Exception | None = None
    try:
        performer = Performer(_opened(reopen), _elsewhere)
    except Exception as refused:  # noqa: BLE001 - told as the failure of each task
        broken = refused
    while True:
        try:
            task: Task | None = tasks.recv()
            if task is None:
                return
            if performer is None:
                raise broken or AssertionError
            if task.context.run != run:
                performer.forget()
                run = task.context.run
            tasks.send(BEGUN)
            outcome = _portable(performer.perform(task))
        except EOFError:
            return
        except Exception as refused:  # noqa: BLE001 - told as the failure of the task
            outcome = _portable(Outcome(failure=_refusal(refused)))
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(2, ENDED)
        tasks.send(outcome)


def _opened(reopen: Callable[[], Session]) -> Session:
    """The session, with the project's code loaded: a task names its step by the module that it is in."""
    session = reopen()
    _ = session.project.code
    return session


def _refusal(refused: Exception) -> Failure:
    error = refused if isinstance(refused, TidemillError) else None
    if isinstance(refused, AttributeError | ImportError | pickle.PickleError):
        error = TidemillError(
            f"its process cannot find it: {refused}", "define steps at the top of pipeline.py or of a module"
        )
    return Failure(text=f"{type(refused).__name__}: {refused}", traceback="", error=error)


def _portable(outcome: Outcome) -> Outcome:
    """An outcome that can leave this process: of what was raised only the words, and an error of the house."""
    made = {node: _portable(one) for node, one in outcome.made.items()}
    if outcome.failure is None:
        return replace(outcome, made=made)
    failure = replace(outcome.failure, raised=None)
    try:
        pickle.loads(pickle.dumps(failure.error))
    except Exception:  # noqa: BLE001 - a user's own error may hold anything
        failure = replace(failure, error=None)
    return replace(outcome, made=made, failure=failure)


def _print_to(printed: Any) -> None:
    """Send all that this process prints to its parent: also what libraries print past Python."""
    for number in (1, 2):
        os.dup2(printed.fileno(), number)
    sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = open(2, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115 - as long as the process
    told = logging.StreamHandler(sys.stderr)
    told.setFormatter(logging.Formatter("%(levelname)s %(name)s  %(message)s"))
    told.setLevel(logging.INFO)
    logging.getLogger().addHandler(told)


@contextmanager
def _elsewhere() -> Iterator[Log]:
    """What is printed is kept by the parent."""
    yield Log()


def _leave_with_parent() -> None:
    """A worker must not go on with a step that another process may take up again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
