"""Policy: what `tidemill.toml` says, as data; its digest is part of every decision."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from tidemill.clock import Span
from tidemill.core.check import Action
from tidemill.core.environment import Environment
from tidemill.core.model import Task
from tidemill.core.trigger import Trigger

# A metric's bound: a sign and a number.
Threshold = Annotated[str, Meta(pattern=r"^(>=|<=|>|<) *-?[0-9]+(\.[0-9]+)?$")]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: a key that it does not know is an error."""


class Source(_Table, frozen=True, kw_only=True):
    """Rows that arrive: where they are, and when each one happened and was known.

    `path` is a file, a pattern of files, a folder of a Delta table, or a URL: of an object store (s3://…), or of a
    database (postgresql+psycopg://…, `${NAME}` stands for a variable of the environment) with its `table` or a
    `query`; a query on a path that is no URL is DuckDB's (":memory:" reads files). `growing` is a column of a
    database that grows with new rows, so that only those are read. `kind` says what the path is where its form does
    not.
    `time` is the column of the event time, `known_at` the column (or the delay after `time`) from which on the
    row was known, `key` names the row. `schema` is the file of its schema. `later` are columns that are not known
    yet at the row's time: a backtest's requests come without them. `delivery` cuts a history into the batches in
    which a backtest delivers it.
    """

    path: str
    time: str | None = None
    known_at: str | None = None
    delay: Span = "0s"
    key: tuple[str, ...] = ()
    schema: str = ""
    later: tuple[str, ...] = ()
    delivery: Span | None = None
    format: Literal["parquet", "csv", "jsonl", ""] = ""
    kind: Literal["files", "delta", "sql", "duckdb", ""] = ""
    table: str = ""
    query: str = ""
    growing: str = ""

    @property
    def meaning(self) -> tuple[object, ...]:
        """What it says of its rows, wherever they are."""
        return (self.time, self.known_at, self.delay, self.key, self.later)


class Problem(_Table, frozen=True, kw_only=True):
    """What is decided, on which label, and what a mistake costs: stated before anything is trained."""

    decision: str
    source: str
    label: str
    task: Task = "classification"
    label_known_at: str | None = None
    metric: str = ""
    owner: str = ""
    cost_of_training: Annotated[float, Meta(ge=0)] = 0.0
    cost_of_error: Annotated[float, Meta(ge=0)] = 0.0


class Inputs(_Table, frozen=True, kw_only=True):
    """The columns that come with a request, and the views of `features.py` that are looked up.

    No `request` means every column of the source that is not the label, a key or a time.
    """

    request: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


# Two numbers are a range; more, or texts, are what there is to choose from.
Choice = Annotated[list[int | float | str | bool | None], Meta(min_length=2)]


class Search(_Table, frozen=True, kw_only=True):
    """A search for parameters by Optuna: at most `trials`, and none begins after the `budget` is spent.

    `space` gives each parameter its range (two numbers) or its choices; LightGBM has one of its own.
    """

    budget: Span = "2m"
    trials: Annotated[int, Meta(ge=1)] = 30
    space: dict[str, Choice] = {}


class Training(_Table, frozen=True, kw_only=True):
    """How a model is made.

    `test` is how much of the newest history is held out (`test_share` where there is no time), `validation` the
    share of the rest on which the number of rounds is chosen, `refit` uses all rows once the gate has passed.
    `split` says how both are held out: by "time" where the source has one and nothing else is said; at "random"; by
    "group", so that no value of the column `group` (a patient, a machine) is on both sides; or "stratified", with the
    same mixture of classes on both. The gate holds a split to it: never are test rows among those that were learned
    from, by time none of these comes later than the first test row, and by group none is of a group of the test.
    `packages` are locked in the model's package beside those that its flavor needs. `search` looks for `params`
    on training and validation rows.
    """

    estimator: str = "lightgbm"
    params: dict[str, Any] = {}
    packages: tuple[str, ...] = ()
    search: Search | None = None
    rounds: Annotated[int, Meta(ge=1)] = 400
    early_stopping: Annotated[int, Meta(ge=0)] = 30
    split: Literal["", "time", "random", "group", "stratified"] = ""
    group: str = ""
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.15
    test: Span = "14d"
    test_share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    refit: bool = True
    window: Span | None = None
    minimum_rows: Annotated[int, Meta(ge=1)] = 50
    seed: Annotated[int, Meta(ge=0)] = 0
    feedback: bool = False


class Gate(_Table, frozen=True, kw_only=True):
    """What a candidate must show before it is released.

    It must be better than the trivial baseline by `baseline_margin`, and not worse than the champion by more than
    `margin` (`better`: proven better); on no slice of at least `slice_minimum` rows proven worse than
    `slice_tolerance`. `thresholds` hold its metrics on the test rows, such as `roc_auc = ">= 0.7"`. `leakage` is how
    much of the label one input alone may tell (1: all of it). `signature` and `older_data` say whether its inputs may
    differ from the champion's, and its data be older. `latency_ms` (the median of single rows), `memory_mb` and
    `size_mb` are the most that its package may take in a fresh process; `environment = "strict"` builds that process
    from the package's lock by uv, where `"present"` is content with the packages here that are the same.
    """

    enabled: bool = True
    margin: float = 0.0
    better: bool = False
    baseline_margin: float = 0.0
    slices: tuple[str, ...] = ()
    slice_tolerance: Annotated[float, Meta(ge=0)] = 0.05
    slice_minimum: Annotated[int, Meta(ge=1)] = 200
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    thresholds: dict[str, Threshold] = {}
    leakage: Annotated[float, Meta(gt=0, le=1)] = 0.98
    signature: Literal["same", "any"] = "same"
    older_data: bool = False
    latency_ms: Annotated[float, Meta(gt=0)] | None = None
    memory_mb: Annotated[float, Meta(gt=0)] | None = None
    size_mb: Annotated[float, Meta(gt=0)] | None = None
    environment: Literal["present", "strict"] = "present"


class Rollout(_Table, frozen=True, kw_only=True):
    """How a release goes live: a canary of `share` until `minimum` labels judged it, or awaiting `approval`."""

    approval: bool = False
    canary: bool = True
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    minimum: Annotated[int, Meta(ge=1)] = 300
    margin: float = 0.0
    maximum: Span = "14d"


class WatchValue(_Table, frozen=True, kw_only=True):
    """One value that is watched: over `window`, against `limit`; beyond it, `action` and who is told.

    `value` is a metric (its limit is how much worse than at release, on top of what chance explains), `drift` (share of
    columns that moved), `age` (days since the newest training row) or `silence` (days without predictions).
    """

    value: str
    limit: Annotated[float, Meta(ge=0)]
    action: Action
    window: Span = "7d"
    minimum: Annotated[int, Meta(ge=1)] = 200
    notify: tuple[str, ...] = ()


class Watch(_Table, frozen=True, kw_only=True):
    """The watch over a model in production; a release without one takes no production traffic.

    `notify` are addresses that Apprise knows (`${NAME}` stands for a variable of the environment), or `log`; they are
    not told the same again within `quiet`.
    """

    values: tuple[WatchValue, ...] = ()
    notify: tuple[str, ...] = ()
    quiet: Span = "1d"


class ModelPolicy(_Table, frozen=True, kw_only=True):
    """Everything that is decided about one model in advance."""

    problem: Problem
    name: str = ""
    inputs: Inputs = Inputs()
    training: Training = Training()
    gate: Gate = Gate()
    rollout: Rollout = Rollout()
    watch: Watch = Watch()

    @property
    def of_training(self) -> "ModelPolicy":
        """The part on which a fitted model depends: a new gate, roll-out or watch makes no new model."""
        return replace(self, gate=Gate(), rollout=Rollout(), watch=Watch())


class Planted(_Table, frozen=True, kw_only=True):
    """A delivery that a backtest replaces by the file at `path`, and says so; `repaired` is redelivered after."""

    source: str
    day: str
    path: str
    repaired: Span | None = None
    about: str = ""


class Firing(_Table, frozen=True, kw_only=True):
    """A pipeline that somebody starts by hand during a backtest."""

    at: str
    pipeline: str
    about: str = ""
    params: dict[str, Any] = {}


class Backtest(_Table, frozen=True, kw_only=True):
    """How history is replayed.

    `training_delay` is how long a training takes there, `skip` names pipelines that a replay has no use for, and
    `planted` and `firings` are what is put on top, which its output says. `seed` is that of ids and of the order of
    requests; `shuffle` gives each row the time of another, by that seed: a history in which nothing changes.
    """

    training_delay: Span = "1h"
    seed: int = 0
    shuffle: bool = False
    skip: tuple[str, ...] = ()
    planted: tuple[Planted, ...] = ()
    firings: tuple[Firing, ...] = ()


class Retention(_Table, frozen=True, kw_only=True):
    """How long things are kept; facts (runs, verdicts, decisions) stay, only bytes and rows go.

    `runs` is for what steps gave, where the step does not say (`expires`); `orphans` for bytes that no run names;
    `releases` is how many former champions of a model keep their packages (all of them where it is not given); and
    `journal` for predictions and labels (for ever where it is not given).
    """

    runs: Span = "90d"
    orphans: Span = "7d"
    releases: Annotated[int, Meta(ge=1)] | None = None
    journal: Span | None = None


class Policy(_Table, frozen=True, kw_only=True):
    """The whole of `tidemill.toml`."""

    name: str
    sources: dict[str, Source]
    models: dict[str, ModelPolicy]
    triggers: tuple[Trigger, ...] = ()
    environments: dict[str, Environment] = {}
    backtest: Backtest = Backtest()
    retention: Retention = Retention()
