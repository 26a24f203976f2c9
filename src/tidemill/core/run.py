"""Run: one execution of a pipeline, and the lineage that it left."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

RunState = Literal["running", "done", "failed", "stopped", "interrupted", "cancelled"]
StepState = Literal["running", "ran", "cached", "failed", "stopped", "skipped", "interrupted"]


class Metrics(Struct, frozen=True, kw_only=True):
    """Measured values; a step that returns them makes its run searchable by them.

    `slices` maps a slice (`"origin=JFK"`) to its values and its `rows`; `about` says what they were measured on;
    `intervals` are those of the values, where they have one, and `slice_intervals` those of each slice.
    """

    values: dict[str, float]
    slices: dict[str, dict[str, float]] = {}
    about: str = ""
    intervals: dict[str, tuple[float, float]] = {}
    slice_intervals: dict[str, dict[str, tuple[float, float]]] = {}


class Attempt(Struct, frozen=True, kw_only=True):
    """One try at a run: a resumed run has several; what is said of the code and the host is that of the try."""

    started: datetime
    ended: datetime | None = None
    state: RunState = "running"
    cause: dict[str, Any] = {}
    code: dict[str, Any] = {}
    software: dict[str, str] = {}
    error: str = ""


class Run(Struct, frozen=True, kw_only=True):
    """One execution of a pipeline; `cause` tells who or which trigger started it, `code` the project's state.

    `packages` is the digest of the blob that lists every installed package; `host` says on which machine and by which
    process it ran; `compared_with` is the release that its model was compared with. A resumed run keeps its id: its
    earlier tries are in `attempts`.
    """

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
    packages: str = ""
    engine: str = "inline"
    host: str = ""
    metrics: dict[str, float] = {}
    compared_with: str = ""
    tags: dict[str, str] = {}
    graph: dict[str, list[str]] = {}
    attempts: tuple[Attempt, ...] = ()
    error: str = ""


class StepRun(Struct, frozen=True, kw_only=True):
    """One step of a run: whether it ran and why, by which code, from which artifacts to which.

    `inputs` and `outputs` map names to digests; `key` is the cache key; `reason` says why it ran or did not.
    `attempt` counts its tries. `log` is the end of what it printed, with the traceback of a failure; where that is
    long, the blob `log_blob` has more. What it gave may be forgotten after `expires`.
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
    ended: datetime | None = None
    seconds: float | None = None
    attempt: int = 1
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    expires: datetime | None = None
    error: str = ""
    log: str = ""
    log_blob: str = ""


def tested(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of metrics that are named for the rows on which they were measured those on test rows, by their own names.

    >>> tested({"test_brier": 0.2, "train_brier": 0.1, "train_latest_hit": 0.3})
    {'brier': 0.2}
    """
    return {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
