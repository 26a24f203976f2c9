"""Policy: the settings of `tidemill.toml` as data; every decision records its digest."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from tidemill.clock import DurationText
from tidemill.core.backtest import Backtest
from tidemill.core.ci import Ci
from tidemill.core.engine import PipelineSettings
from tidemill.core.environment import CONTROL, DELIVERY_PIPELINES, Environment
from tidemill.core.metric import Threshold
from tidemill.core.model import PredictionTask
from tidemill.core.regime import Regimes
from tidemill.core.rollout import Rollout as Rollout
from tidemill.core.serving import Serving as Serving
from tidemill.core.signing import Signing
from tidemill.core.source import Source
from tidemill.core.trigger import Trigger
from tidemill.core.upgrade import Upgrade
from tidemill.core.watch import Watch as Watch
from tidemill.core.watch import WatchValue as WatchValue


class Problem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prediction problem: the decision that people make with the predictions, the label, and the costs.

    Attributes
    ----------
    decision
        What people do with the predictions.
    source
        The source with the label.
    label
        The column to predict.
    task
        Whether the label is a class or a number.
    label_known_at
        The column with the time at which the label became known.
    metric
        The main metric; the default is `log_loss` for a classification and `rmse` for a regression.
    positive
        The positive class of two: precision, recall, F1, average precision and the curves are about it. The default is
        the last in their order: 1 of 0 and 1, true of false and true, "yes" of "no" and "yes".
    spellings
        Other spellings of the classes, such as `{ Y = "yes", N = "no" }`: in the source, in later files and in labels
        over HTTP they mean the class after the sign. A class that means itself is a class of its own.
    owner
        Who is responsible for the model. It is stored; nothing is computed from it.
    cost_of_training
        The cost of one training; a backtest adds it up.
    cost_of_error
        The cost of a prediction that is as wrong as one without a model; one with half of that loss costs half. Only
        `backtest --tune` uses it: 0 is not stated, and counts as 1.
    cost_of_false_alarm
        The cost of a training that a check requested and that led to no better model; `backtest --tune` adds it up.
    cost_of_degraded_hour
        The cost of an hour in a week whose predictions were worse than those without a model; `backtest --tune` adds it
        up.
    """

    decision: str
    source: str
    label: str
    task: PredictionTask = "classification"
    label_known_at: str | None = None
    metric: str = ""
    positive: str = ""
    spellings: dict[str, str] = {}
    owner: str = ""
    cost_of_training: Annotated[float, Meta(ge=0)] = 0.0
    cost_of_error: Annotated[float, Meta(ge=0)] = 0.0
    cost_of_false_alarm: Annotated[float, Meta(ge=0)] = 0.0
    cost_of_degraded_hour: Annotated[float, Meta(ge=0)] = 0.0


class Inputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inputs of the model.

    Attributes
    ----------
    request
        The columns that come with a request. The default is every column of the source except the label, key
        and times.
    views
        The feature views of `features.py` that the model uses.
    transformations
        The transformations of `features.py` that the model uses. The default is all.
    exclude
        Columns that are not inputs of the model. Transformations can still read them.
    """

    request: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    transformations: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()


# Two numbers are a range; more, or texts, are what there is to choose from.
Choice = Annotated[list[int | float | str | bool | None], Meta(min_length=2)]


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search for parameters by Optuna.

    Attributes
    ----------
    budget
        No attempt starts after this time.
    trials
        The most attempts.
    space
        For each parameter its range (two numbers) or its choices. LightGBM has a default space.
    """

    budget: DurationText = "2m"
    trials: Annotated[int, Meta(ge=1)] = 30
    space: dict[str, Choice] = {}


class Training(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The training of a model, and the choice of test and validation rows.

    Attributes
    ----------
    estimator
        `"lightgbm"`, or `module:Class` with the interface of scikit-learn, or of river for an online learner.
    params
        Parameters of the estimator.
    frame
        The rows that an estimator with scikit-learn's interface gets: `numbers` (texts and times as numbers, without
        names), or the columns in their own types in a frame of `polars` or `pandas`. By default (`auto`), an estimator
        that selects columns by name gets a frame, another one numbers, or a frame if it rejects numbers.
    packages
        Python packages to add to the package lock, besides those that the flavor needs.
    search
        A search for `params` on training and validation rows, in `[training.search]`.
    rounds
        The most boosting rounds.
    early_stopping
        Stop after this number of rounds without a better validation loss; 0 never stops early.
    split
        How test and validation rows are held out: the newest (`time`, the default if the source has an event
        time), at `random` (the default otherwise), whole groups (`group`), or with equal shares of the classes
        (`stratified`).
    group
        The column for `split = "group"`, such as a patient: no value is on both sides.
    validation
        The share of the other rows that chooses the number of rounds.
    test
        How much of the newest history is the test, if the split is by time.
    test_share
        The share of rows that is the test, if the split is not by time.
    minimum_test_rows
        The least number of test rows of a split by time: a test with fewer grows into the older rows, at most to
        `test_share`.
    refit
        Train again on all rows after the gate has passed.
    window
        Use only rows of this newest part of the history.
    rows
        Which of these rows a training uses after a new regime was found: `all`, only those of the `regime`, or the
        better of the two on the newest rows of the regime (`auto`).
    minimum_rows
        The least number of rows for a training.
    seed
        The random seed.
    feedback
        Also train on predictions of the service that have a label.
    """

    estimator: str = "lightgbm"
    params: dict[str, Any] = {}
    frame: Literal["auto", "numbers", "polars", "pandas"] = "auto"
    packages: tuple[str, ...] = ()
    search: Search | None = None
    rounds: Annotated[int, Meta(ge=1)] = 400
    early_stopping: Annotated[int, Meta(ge=0)] = 30
    split: Literal["", "time", "random", "group", "stratified"] = ""
    group: str = ""
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.15
    test: DurationText = "14d"
    test_share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    minimum_test_rows: Annotated[int, Meta(ge=0)] = 50
    refit: bool = True
    window: DurationText | None = None
    rows: Literal["auto", "all", "regime"] = "all"
    minimum_rows: Annotated[int, Meta(ge=1)] = 50
    seed: Annotated[int, Meta(ge=0)] = 0
    feedback: bool = False


class Gate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The conditions for a candidate to become a release. Models are compared by the loss of each test row.

    Attributes
    ----------
    enabled
        Whether the gate judges candidates. Without it, each training is measured on its test rows and released.
    measure
        Whether a training without a gate is measured on its test rows. `false` saves the model that is fitted for it;
        then no metric can be watched.
    margin
        How much higher than the champion's loss the candidate's loss may be.
    better
        Require that the candidate is better than the champion, by the confidence interval.
    baseline_margin
        How much better than the trivial baseline the candidate must be.
    slices
        Columns: the comparison with the champion is repeated for each of their values.
    slice_tolerance
        How much worse than the champion a slice may be; beyond it, at `confidence`, the gate stops.
    slice_minimum
        Slices with fewer rows are not compared.
    confidence
        The confidence of the intervals.
    thresholds
        Limits of metrics on the test rows, such as `roc_auc = ">= 0.7"`.
    leakage
        The most that one input alone may explain of the label (1 is everything).
    signature
        Whether inputs and classes may differ from the champion's.
    older_data
        Whether the data may end before the champion's data.
    latency_ms
        The most time for one row, as the median.
    memory_mb
        The most memory of the process that predicts.
    size_mb
        The most size of the package.
    environment
        The process that tests the package: `present` uses the installed packages if their versions are those of
        the package lock; `strict` always builds an environment from the lock with uv.
    """

    enabled: bool = True
    measure: bool = True
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


class ModelPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one model."""

    problem: Problem
    name: str = ""
    inputs: Inputs = Inputs()
    training: Training = Training()
    gate: Gate = Gate()
    rollout: Rollout = Rollout()
    serving: Serving = Serving()
    watch: Watch = Watch()
    regimes: Regimes = Regimes()

    @property
    def training_settings(self) -> "ModelPolicy":
        """Return the settings that a trained model depends on: those of its use in production are reset."""
        production = {"serving": Serving(), "watch": Watch(), "regimes": Regimes()}
        return replace(self, gate=Gate(), rollout=Rollout(), **production)


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The time for which bytes and rows are kept. Records (runs, verdicts, decisions) are kept forever.

    Attributes
    ----------
    runs
        Outputs of steps, unless the step has its own `retention`.
    orphans
        Bytes that no run refers to.
    releases
        The number of former champions of a model whose packages are kept; the default is all.
    journal
        Predictions and labels; the default is for ever.
    """

    runs: DurationText = "90d"
    orphans: DurationText = "7d"
    releases: Annotated[int, Meta(ge=1)] | None = None
    journal: DurationText | None = None


class JournalPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the predictions of the service are on the disk.

    Attributes
    ----------
    durability
        `batch`: the service writes the predictions shortly after the replies. If it is killed, or the machine loses its
        power, those of the last `seconds` are lost. `group`: each prediction is on the disk before its reply; requests
        at the same time share one write. A reply then waits for the disk. Labels are always on the disk before the
        reply.
    seconds
        The most time of predictions that a killed service loses with `batch`; with both, the time until commands see a
        prediction.
    """

    durability: Literal["batch", "group"] = "batch"
    seconds: Annotated[float, Meta(gt=0, le=60)] = 1.0


class Shutdown(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `tidemill serve` and `tidemill up` end after SIGTERM or Ctrl-C.

    Attributes
    ----------
    seconds
        The process has ended after this time, whatever its models, its jobs and its disk do. Open requests are answered
        for two thirds of it. Running jobs are interrupted at once, and killed after a third of it; the next
        `tidemill up` resumes their runs.
    """

    seconds: Annotated[float, Meta(ge=3, le=3600)] = 30.0


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of `tidemill.toml`."""

    name: str
    sources: dict[str, Source]
    models: dict[str, ModelPolicy]
    triggers: tuple[Trigger, ...] = ()
    environments: dict[str, Environment] = {}
    pipelines: dict[str, PipelineSettings] = {}
    people: dict[str, tuple[str, ...]] = {}
    backtest: Backtest = Backtest()
    retention: Retention = Retention()
    journal: JournalPolicy = JournalPolicy()
    shutdown: Shutdown = Shutdown()
    ci: Ci = Ci()
    signing: Signing = Signing()
    upgrade: Upgrade = Upgrade()

    def in_environment(self, environment: str) -> "Policy":
        """Return the policy with the triggers that fire in an environment: models are not trained where CI runs.

        Each push is built there, also without a trigger for it.
        """
        is_control = environment == CONTROL
        triggers = [each for each in self.triggers if (each.pipeline in DELIVERY_PIPELINES) == is_control]
        if is_control and not any(trigger.on == "push" for trigger in triggers):
            triggers.append(Trigger(name="push", on="push", pipeline="ci"))
        return replace(self, triggers=tuple(triggers))

    @property
    def labels(self) -> dict[str, dict[str, dict[str, str]]]:
        """Return the label columns of classifications by source, each with the spellings of its classes."""
        columns: dict[str, dict[str, dict[str, str]]] = {}
        for model in self.models.values():
            problem = model.problem
            if problem.task == "classification":
                spellings = columns.setdefault(problem.source, {}).setdefault(problem.label, {})
                spellings.update(problem.spellings)
        return columns

    @property
    def strict_models(self) -> frozenset[str]:
        """Return the models whose requests must fit."""
        return frozenset(name for name, model in self.models.items() if model.serving.strict)

    def find_hosts(self, environment: str) -> tuple[str, ...]:
        """Return the host names that the servers of an environment accept."""
        return self.environments.get(environment, Environment()).hosts

    @property
    def serving(self) -> dict[str, Serving]:
        """Return the settings of the service for each model."""
        return {name: model.serving for name, model in self.models.items()}
