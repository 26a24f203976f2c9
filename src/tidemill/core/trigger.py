"""Trigger: a pattern of events, or of clock ticks, and the pipeline that it starts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tidemill.clock import DurationText

JobState = Literal["waiting", "running", "done", "failed", "stopped", "cancelled", "dropped"]
CatchUp = Literal["last", "all", "none"]


class Trigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Runs a pipeline on an event, or at a time.

    Attributes
    ----------
    name
        The name of the trigger.
    pipeline
        The pipeline to run.
    on
        The kind of event.
    where
        Conditions on the event's subject and payload.
    rows
        With `on = "predictions"` or `on = "labels"`: fire each time that this number of rows has arrived.
    cron
        The times, in cron format, instead of `on`.
    zone
        The time zone of `cron`.
    catch_up
        Which clock ticks count that were missed while no daemon ran: the last, all or none.
    model
        The model to run it for.
    params
        Parameters of the pipeline.
    cooldown
        The least time between two jobs for one model. A job that was stopped (such as a candidate that the gate
        refused), failed or was cancelled does not count, but the next one needs new rows, and waits for a sixteenth of
        the cooldown, then an eighth, and so on, while retrainings do not help.
    budget
        The most jobs a day; the default is 24 for a trigger on events without `cooldown`. A job above
        `cooldown` or `budget` is dropped, because a lasting cause fires the trigger again. Jobs for causes that
        occur only once (`data`, `rows`, `code`, `packages`, `champion.missing`, `push`, `build`) wait instead.
    """

    name: str
    pipeline: str
    on: str = ""
    where: dict[str, str] = {}
    rows: Annotated[int, Meta(ge=1)] | None = None
    cron: str = ""
    zone: str = "UTC"
    catch_up: CatchUp = "last"
    model: str = ""
    params: dict[str, Any] = {}
    cooldown: DurationText = "0s"
    budget: Annotated[int, Meta(ge=1)] | None = None


class Job(Struct, frozen=True, kw_only=True):
    """The request of a trigger to run a pipeline for one cause; `error` is why a job failed or was `dropped`.

    `available` is the earliest start. `run` is the id of its run, set before the run starts, so that a repeated attempt
    starts or resumes the same run. `attempts` counts the starts, `deaths` the times that its process died.
    """

    id: str
    trigger: str
    dedupe_key: str
    pipeline: str
    environment: str
    state: JobState
    created: datetime
    available: datetime
    model: str = ""
    params: dict[str, Any] = {}
    event: str = ""
    run: str = ""
    owner: str = ""
    attempts: int = 0
    deaths: int = 0
    error: str = ""
