"""The messages between a run and its engine: tasks and their outcomes."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import Step
from tidemill.core.run import Metrics
from tidemill.errors import TidemillError


class ConstantValue(Struct, frozen=True):
    """An argument that is a constant of the pipeline."""

    value: Any


class StoredValue(Struct, frozen=True):
    """An argument that is stored in the blobs, an output of `step`; `verdicts` are the ids of the verdicts in it.

    The ids are not part of the stored value, so an equal verdict of another run has the same digest and cache key.
    """

    artifact: Artifact
    step: str
    verdicts: tuple[str, ...] = ()


class TransientValue(Struct, frozen=True):
    """An argument that is not stored: the output of a transient step, computed in the process that needs it."""

    task: "Task"
    output: str


class ListValue(Struct, frozen=True):
    """An argument that is a list with outputs of steps."""

    members: tuple["Argument", ...]


Argument = ConstantValue | StoredValue | TransientValue | ListValue


class Task(Struct, frozen=True):
    """One call of a step, with everything that a process needs to run it.

    `transient` maps the outputs of a transient step to their names; it is empty for other steps.
    """

    node: str
    step: Step[Any]
    arguments: dict[str, Argument]
    context: Context
    transient: dict[str, str] = field(default_factory=dict)

    @property
    def timeout(self) -> timedelta | None:
        return self.step.timeout


class TaskFailure(Struct, frozen=True):
    """The reason why a task failed, as text: the exception itself may not be picklable.

    `error` is the exception if it is a `TidemillError`; `raised` is set only if the step ran in this process.
    `retryable` is whether the step may succeed when it runs again.
    """

    text: str
    traceback: str
    error: TidemillError | None = None
    retryable: bool = False
    raised: BaseException | None = None


class TaskOutcome(Struct, frozen=True):
    """The result of a task.

    `artifacts` and `verdicts` are by output; `log` is the text that the step printed, with the traceback of a failure;
    `transient` has the outcomes of the transient steps that the task computed, by node.
    """

    seconds: float = 0.0
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    verdicts: dict[str, tuple[Verdict, ...]] = field(default_factory=dict)
    metrics: tuple[Metrics, ...] = ()
    log: str = ""
    executor: str = ""
    failure: TaskFailure | None = None
    transient: dict[str, "TaskOutcome"] = field(default_factory=dict)


class Engine(Protocol):
    """Runs tasks; every started task has an outcome, even if its process dies."""

    name: str

    def count_free_slots(self) -> int:
        """Return how many more tasks can be started now."""
        ...

    def start(self, task: Task) -> None:
        """Start a task; errors of the step are part of its outcome and are not raised."""
        ...

    def wait(self, seconds: float | None) -> list[tuple[str, TaskOutcome]]:
        """Wait until a task finishes, at most `seconds`; return the finished tasks' outcomes by node."""
        ...

    def stop(self) -> None:
        """Stop all tasks without an outcome; the engine can be used again."""
        ...

    def close(self) -> None:
        """Free all resources of the engine."""
        ...


def iterate_instances(values: Iterable[Any], noun: Any) -> Iterator[Any]:
    """Yield the values that are instances of a type, including members of lists and tuples."""
    for value in values:
        if isinstance(value, noun):
            yield value
        elif isinstance(value, list | tuple):
            yield from (member for member in value if isinstance(member, noun))


def assign_verdict_ids(value: Any, ids: Sequence[str]) -> Any:
    """Return the value with these ids set on its verdicts, in their order; further verdicts get no id."""
    if not any(True for _ in iterate_instances((value,), Verdict)):
        return value
    remaining = iter(ids)

    def assign(member: Any) -> Any:
        return replace(member, id=next(remaining, "")) if isinstance(member, Verdict) else member

    return assign(value) if isinstance(value, Verdict) else type(value)(map(assign, value))


def describe_exception(raised: BaseException) -> str:
    """Return the type and message of an exception, or only its type if the message cannot be computed."""
    try:
        return f"{type(raised).__name__}: {raised}"
    except Exception:  # noqa: BLE001 - __str__ is code of the user
        return type(raised).__name__


def retry_delay(attempt: int) -> float:
    """Return the seconds to wait before the next attempt of a step."""
    return float(min(60.0, 0.5 * 2.0 ** (attempt - 1)))
