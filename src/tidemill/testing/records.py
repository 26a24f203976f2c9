"""Records as suites write them: each with an id of its place, those of later places later."""

from datetime import UTC, datetime, timedelta

from tidemill.clock import uuid7
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.run import Run, StepRun, StepState

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def identifier(place: int) -> str:
    """An id as clocks mint them; those of later places sort later."""
    return uuid7(NOON + timedelta(seconds=place), place)


def run(place: int, *, pipeline: str = "training", state: str = "done", metrics: dict[str, float] | None = None) -> Run:
    """A run."""
    return Run(
        id=identifier(place),
        pipeline=pipeline,
        environment="test",
        state=state,  # type: ignore[arg-type]
        started=NOON,
        metrics=metrics or {},
    )


def step(
    place: int, *, inputs: dict[str, str] | None = None, outputs: dict[str, str] | None = None, state: StepState = "ran"
) -> StepRun:
    """A step of the first run."""
    return StepRun(
        id=identifier(place),
        run=identifier(0),
        step="fit",
        position=place,
        state=state,
        reason="first time",
        key=f"{place:064d}",
        code="c",
        executor="inline",
        started=NOON,
        inputs=inputs or {},
        outputs=outputs or {},
    )


def release(place: int, version: int, name: str = "late") -> Release:
    """A release."""
    return Release(
        id=identifier(place),
        name=name,
        version=version,
        package="p",
        flavor="lightgbm",
        environment="test",
        created=NOON,
    )


def event(place: int, key: str, environment: str = "test", subject: str = "rows") -> Event:
    """An event."""
    return Event(
        id=identifier(place),
        kind="data",
        environment=environment,
        subject=subject,
        time=NOON,
        known_at=NOON,
        dedupe_key=key,
    )
