"""Trigger: a pattern of events, or of clock ticks, and the pipeline that it starts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tidemill.clock import Span

JobState = Literal["waiting", "running", "done", "failed", "stopped", "cancelled", "dropped"]
CatchUp = Literal["last", "all", "none"]


class Trigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Starts `pipeline` on each event of kind `on` that fits `where`, or at each tick of `cron` in the time `zone`.

    `cooldown` is the least time between two firings for one model, `budget` the most firings a day (24 for a trigger
    on events that states neither). What they hold back is dropped, since the cause, if it lasts, will be noticed
    again; only what comes once (new data and rows, changed code and packages, a champion that is missing) waits its
    turn. `catch_up` says which ticks count of those that passed while no daemon watched: the last, all, or none.
    """

    name: str
    pipeline: str
    on: str = ""
    where: dict[str, str] = {}
    cron: str = ""
    zone: str = "UTC"
    catch_up: CatchUp = "last"
    model: str = ""
    params: dict[str, Any] = {}
    cooldown: Span = "0s"
    budget: Annotated[int, Meta(ge=1)] | None = None


class Job(Struct, frozen=True, kw_only=True):
    """What a trigger made of one cause: a run, or the reason (`error`) why it was `dropped`.

    `available` is when it may start. `run` is named before the run begins: whoever takes the job up again begins the
    same run, or goes on with it. `attempts` counts beginnings, `deaths` how often its process died.
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
