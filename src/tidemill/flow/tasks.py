"""What passes between a run and the engine that performs its steps: tasks go out, outcomes come back."""

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


class Plain(Struct, frozen=True):
    """An argument that the pipeline states."""

    value: Any


class Kept(Struct, frozen=True):
    """An argument that is in the blobs, an output of `step`; `verdicts` are the ids of the verdicts in it.

    The ids are no part of the stored value: the same verdict of another run has the same digest and cache key.
    """

    artifact: Artifact
    step: str
    verdicts: tuple[str, ...] = ()


class Made(Struct, frozen=True):
    """An argument that is not kept: the output of a transient step, made where it is needed."""

    task: "Task"
    output: str


class Several(Struct, frozen=True):
    """An argument that is a list with the values of steps."""

    members: tuple["Argument", ...]


Argument = Plain | Kept | Made | Several


class Task(Struct, frozen=True):
    """One call of a step: all that a process needs to perform it.

    `transient` maps the outputs of a transient step to their names; other steps have none.
    """

    node: str
    step: Step[Any]
    arguments: dict[str, Argument]
    context: Context
    transient: dict[str, str] = field(default_factory=dict)

    @property
    def timeout(self) -> timedelta | None:
        return self.step.timeout


class Failure(Struct, frozen=True):
    """Why a task failed, in words: what was raised may not be able to leave its process.

    `error` is an error of the house; `raised` is only there where the step ran in this process.
    """

    text: str
    traceback: str
    error: TidemillError | None = None
    again: bool = False
    raised: BaseException | None = None


class Outcome(Struct, frozen=True):
    """What became of a task.

    `artifacts` and `verdicts` are by output; `log` is what the step printed, with the traceback of a failure; `made`
    has the outcomes of transient steps that were computed on the way, by node.
    """

    seconds: float = 0.0
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    verdicts: dict[str, tuple[Verdict, ...]] = field(default_factory=dict)
    metrics: tuple[Metrics, ...] = ()
    log: str = ""
    executor: str = ""
    failure: Failure | None = None
    made: dict[str, "Outcome"] = field(default_factory=dict)


class Engine(Protocol):
    """Performs tasks, here or elsewhere; a task that was started always has an outcome, also where its process dies."""

    name: str

    def room(self) -> int:
        """How many more tasks can be started now."""
        ...

    def start(self, task: Task) -> None:
        """Take a task on; it raises nothing that the step raises."""
        ...

    def wait(self, seconds: float | None) -> list[tuple[str, Outcome]]:
        """The outcomes, by node, of tasks that ended; waits for the first, at most so long."""
        ...

    def stop(self) -> None:
        """End all tasks that were started and have no outcome yet; the engine can be used again."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def of_kind(values: Iterable[Any], noun: Any) -> Iterator[Any]:
    """The values of a kind, also those in lists."""
    for value in values:
        if isinstance(value, noun):
            yield value
        elif isinstance(value, list | tuple):
            yield from (member for member in value if isinstance(member, noun))


def with_ids(value: Any, ids: Sequence[str]) -> Any:
    """The value with these ids on its verdicts, in their order; a verdict beyond the last id has none."""
    if not any(True for _ in of_kind((value,), Verdict)):
        return value
    following = iter(ids)

    def numbered(one: Any) -> Any:
        return replace(one, id=next(following, "")) if isinstance(one, Verdict) else one

    return numbered(value) if isinstance(value, Verdict) else type(value)(map(numbered, value))


def told(raised: BaseException) -> str:
    """What was raised, in words, also where it cannot say it itself."""
    try:
        return f"{type(raised).__name__}: {raised}"
    except Exception:  # noqa: BLE001 - its __str__ is the step's code
        return type(raised).__name__


def pause(attempt: int) -> float:
    """How long to wait before a step is tried again, in seconds."""
    return float(min(60.0, 0.5 * 2.0 ** (attempt - 1)))
