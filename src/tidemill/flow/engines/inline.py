"""The engine `inline`: runs steps one after the other in the process of the run, in the order of their calls."""

import os

from msgspec.structs import replace

from tidemill.flow.perform import Performer
from tidemill.flow.session import Session
from tidemill.flow.tasks import Task, TaskOutcome


class InlineEngine:
    """Performs one task at a time, inside `wait`; passes values to the next step in memory."""

    name = "inline"

    def __init__(self, session: Session) -> None:
        self._performer = Performer(session)
        self._task: Task | None = None

    def count_free_slots(self) -> int:
        return 0 if self._task is not None else 1

    def start(self, task: Task) -> None:
        self._task = task

    def wait(self, seconds: float | None) -> list[tuple[str, TaskOutcome]]:  # noqa: ARG002 - the task runs in this call
        task, self._task = self._task, None
        if task is None:
            return []
        outcome = self._performer.perform(task)
        return [(task.node, replace(outcome, executor=f"inline, process {os.getpid()}"))]

    def stop(self) -> None:
        self._task = None

    def close(self) -> None:
        self._performer.forget()
