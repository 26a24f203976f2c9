"""Example records for the suites; the id of a record follows from its index."""

from datetime import UTC, datetime, timedelta

from tidemill.clock import uuid7
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.run import Run, StepRun, StepState

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def identifier(index: int) -> str:
    """Return an id of the form of a clock's ids; the ids of higher indices sort later."""
    return uuid7(NOON + timedelta(seconds=index), index)


def run(index: int, *, pipeline: str = "training", state: str = "done", metrics: dict[str, float] | None = None) -> Run:
    """Return a run."""
    return Run(
        id=identifier(index),
        pipeline=pipeline,
        environment="test",
        state=state,  # type: ignore[arg-type]
        started=NOON,
        metrics=metrics or {},
    )


def step(
    index: int, *, inputs: dict[str, str] | None = None, outputs: dict[str, str] | None = None, state: StepState = "ran"
) -> StepRun:
    """Return a step of the run with index 0."""
    return StepRun(
        id=identifier(index),
        run=identifier(0),
        step="fit",
        position=index,
        state=state,
        reason="first time",
        key=f"{index:064d}",
        code="c",
        executor="inline",
        started=NOON,
        inputs=inputs or {},
        outputs=outputs or {},
    )


def release(index: int, version: int, name: str = "late") -> Release:
    """Return a release."""
    return Release(
        id=identifier(index),
        name=name,
        version=version,
        package="p",
        flavor="lightgbm",
        environment="test",
        created=NOON,
    )


def event(index: int, key: str, environment: str = "test", subject: str = "rows") -> Event:
    """Return an event."""
    return Event(
        id=identifier(index),
        kind="data",
        environment=environment,
        subject=subject,
        time=NOON,
        known_at=NOON,
        dedupe_key=key,
    )
