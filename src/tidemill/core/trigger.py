"""Trigger: a pattern of events, or of clock ticks, and the pipeline that it starts."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from tidemill.clock import Span

JobState = Literal["waiting", "running", "done", "failed", "stopped"]


class Trigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Starts `pipeline` on each event of kind `on` that fits `where`, or at each tick of `cron`.

    `cooldown` is the least time between two firings for one model, `budget` the most firings a day. What they hold
    back is dropped, since the cause, if it lasts, will be noticed again; only new data waits its turn.
    """

    name: str
    pipeline: str
    on: str = ""
    where: dict[str, str] = {}
    cron: str = ""
    model: str = ""
    params: dict[str, Any] = {}
    cooldown: Span = "0s"
    budget: int | None = None


class Job(Struct, frozen=True, kw_only=True):
    """One firing of a trigger, waiting to run or run; `available` is when it may start."""

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
    error: str = ""
