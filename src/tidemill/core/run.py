"""Run: one execution of a pipeline, with its steps and their inputs and outputs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, convert, field
from msgspec.structs import force_setattr

from tidemill.core.metric import order_metrics

RunState = Literal["running", "done", "failed", "stopped", "interrupted", "cancelled"]
StepState = Literal["running", "ran", "cached", "failed", "stopped", "skipped", "interrupted"]
Interruption = Literal["", "signal", "crash", "restore"]
"""Why a run was interrupted: a person or the daemon sent a signal, its process died, or a backup was restored."""
CacheDecision = Literal[
    "unknown",  # recorded by an older version of Tidemill
    "new",  # no earlier result has this code and these inputs
    "lost",  # the bytes of the earlier result are deleted
    "off",  # the step has its cache switched off
    "changes",  # the step uses a resource that it can write to
    "reads",  # the step uses a resource whose content can change between runs
    "requested",  # a person requested this step
    "hit",  # an earlier result was used
    "resumed",  # an earlier attempt of this run has finished it
    "needed",  # transient, and another step needs its value
    "unneeded",  # transient, and no step needs its value
]

METRIC_SETS = ("test", "baseline", "train")
"""The prefixes of metrics: of the model and of the trivial baseline on the test rows, of the model on training rows."""


class Cause(Struct, frozen=True, kw_only=True):
    """The cause of a run: a trigger (with its event and job), or a user.

    `by` is the way in which it was started. A run of a single step has the name of the `step`, and the run `origin`
    whose outputs it uses.
    """

    trigger: str = ""
    event: str = ""
    job: str = ""
    by: str = ""
    user: str = ""
    step: str = ""
    origin: str = field(name="from", default="")


class Metrics(Struct, frozen=True, kw_only=True):
    """Measured values of a step; runs can be searched by them.

    `slices` maps a slice (`"origin=JFK"`) to its values and its `rows`; `about` names the measured rows (`"test"`).
    `intervals` are the confidence intervals of the values that have one, `slice_intervals` those of each slice. `rows`
    is the digest of the measured rows: values of other rows are not compared; `count` is their number.
    """

    values: dict[str, float]
    slices: dict[str, dict[str, float]] = {}
    about: str = ""
    intervals: dict[str, tuple[float, float]] = {}
    slice_intervals: dict[str, dict[str, tuple[float, float]]] = {}
    rows: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "values", order_metrics(self.values))


class Attempt(Struct, frozen=True, kw_only=True):
    """One attempt at a run, with its code and software; a resumed run has several attempts."""

    started: datetime
    ended: datetime | None = None
    state: RunState = "running"
    cause: dict[str, Any] = {}
    code: dict[str, Any] = {}
    software: dict[str, str] = {}
    error: str = ""
    interruption: Interruption = ""


class Run(Struct, frozen=True, kw_only=True):
    """One execution of a pipeline.

    Attributes
    ----------
    id
        The id.
    pipeline
        The name of the pipeline.
    environment
        The environment.
    state
        The state.
    started
        When it started.
    ended
        When it ended.
    seconds
        How long it took.
    model
        The model.
    params
        The parameters of the pipeline.
    cause
        Who or which trigger started it.
    code
        The digest, the git commit and a copy of the code; the digest of the container image if the steps ran in one.
    software
        The versions of the main packages.
    packages
        The digest of the list of all installed packages.
    engine
        The engine.
    host
        The machine and the process.
    metrics
        The measured values, such as `test_log_loss`.
    compared_with
        The release that its model was compared with.
    tags
        Tags.
    graph
        The steps, and which results each step needs.
    attempts
        Earlier attempts, if the run was resumed.
    error
        The error, if it failed or was stopped.
    interruption
        Why it was interrupted.
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
    interruption: Interruption = ""

    @property
    def started_by(self) -> Cause:
        """Return the cause of the first attempt."""
        return _cause(self.cause)

    @property
    def resumed_by(self) -> Cause | None:
        """Return the cause of the last attempt if the run was resumed, otherwise None."""
        return _cause(self.cause["resumed"]) if self.cause.get("resumed") else None


def _cause(facts: Any) -> Cause:
    known = facts if isinstance(facts, Mapping) else {"by": str(facts)}
    return convert({name: value for name, value in known.items() if isinstance(value, str)}, Cause)


class StepRun(Struct, frozen=True, kw_only=True):
    """One step of a run: its state, its code, its inputs and its outputs.

    `inputs` and `outputs` map names to digests, `verdicts` maps outputs to the ids of their verdicts; `key` is the
    cache key. `decision` is why the step ran or was cached, `reason` the same as text for display; `stops` is whether
    a verdict of the step stopped the run. `attempt` counts the attempts. `log` is the end of the printed text, with
    the traceback of a failure; the blob `log_blob` has the whole text if it is long. The outputs may be deleted after
    `expires`.
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
    verdicts: dict[str, tuple[str, ...]] = {}
    decision: CacheDecision = "unknown"
    stops: bool = False
    expires: datetime | None = None
    error: str = ""
    log: str = ""
    log_blob: str = ""


def select_test_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics on test rows, by their names without the prefix `test_`.

    >>> select_test_metrics({"test_brier": 0.2, "train_brier": 0.1, "train_latest_hit": 0.3})
    {'brier': 0.2}
    """
    return {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
