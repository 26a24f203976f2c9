"""Run: one execution of a pipeline, and the lineage that it left."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

RunState = Literal["running", "done", "failed", "stopped", "interrupted", "cancelled"]
StepState = Literal["running", "ran", "cached", "failed", "stopped", "skipped"]


class Metrics(Struct, frozen=True, kw_only=True):
    """Measured values; a step that returns them makes its run searchable by them.

    `slices` maps a slice (`"origin=JFK"`) to its values and its `rows`; `about` says what they were measured on.
    """

    values: dict[str, float]
    slices: dict[str, dict[str, float]] = {}
    about: str = ""


class Run(Struct, frozen=True, kw_only=True):
    """One execution of a pipeline; `cause` tells who or which trigger started it, `code` the project's state."""

    id: str
    pipeline: str
    environment: str
    state: RunState
    started: datetime
    ended: datetime | None = None
    seconds: float | None = None
    model: str = ""
    params: dict[str, Any] = {}
    cause: dict[str, Any] = {}
    code: dict[str, Any] = {}
    software: dict[str, str] = {}
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    graph: dict[str, list[str]] = {}
    resumed_from: str = ""
    error: str = ""


class StepRun(Struct, frozen=True, kw_only=True):
    """One step of a run: whether it ran and why, by which code, from which artifacts to which.

    `inputs` and `outputs` map names to digests; `key` is the cache key; `reason` says why it ran or did not.
    """

    id: str
    run: str
    step: str
    position: int
    state: StepState
    reason: str
    key: str
    code: str
    executor: str
    started: datetime
    seconds: float | None = None
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    error: str = ""
    log: str = ""
