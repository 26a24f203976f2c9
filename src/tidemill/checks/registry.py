"""The list of checks: what each compares, what it needs, and its actions. Register a new check here."""

from typing import Literal

from msgspec import Struct

from tidemill.core.check import Action

CheckSubject = Literal["batch", "candidate", "challenger", "champion"]
CheckStage = Literal["ingestion", "gate", "canary", "watch"]
CheckNeed = Literal["rows", "schema", "champion", "package", "labels", "predictions", "training rows", "time"]


class CheckInfo(Struct, frozen=True, kw_only=True):
    """A check with the name of its verdicts; a check that is `part_of` another adds a finding to that verdict.

    A check of the watch has the actions of its policy in addition to its own `actions`.
    """

    name: str
    stage: CheckStage
    subject: CheckSubject
    needs: tuple[CheckNeed, ...]
    about: str
    actions: tuple[Action, ...] = ()
    part_of: str = ""

    @property
    def by_calendar(self) -> bool:
        """Whether the check needs no rows: time alone changes its outcome."""
        return self.needs == ("time",)


def _gate(name: str, about: str, *needs: CheckNeed) -> CheckInfo:
    return CheckInfo(name=name, stage="gate", subject="candidate", needs=needs, about=about, part_of="gate")


def _watch(name: str, about: str, *needs: CheckNeed, actions: tuple[Action, ...] = ("proceed",)) -> CheckInfo:
    return CheckInfo(name=name, stage="watch", subject="champion", needs=needs, about=about, actions=actions)


CHECKS: tuple[CheckInfo, ...] = (
    CheckInfo(
        name="schema",
        stage="ingestion",
        subject="batch",
        needs=("rows", "schema"),
        about="its rows with the schema of the source",
        actions=("proceed", "stop"),
    ),
    CheckInfo(
        name="gate",
        stage="gate",
        subject="candidate",
        needs=("rows", "labels", "package"),
        about="its losses on test rows with those of the trivial baseline and of the champion; all of its parts",
        actions=("proceed", "collect", "stop"),
    ),
    _gate("data", "its training rows with stopped batches and with the age of the champion's rows", "rows"),
    _gate("classes", "the classes of newer rows with those of its training rows", "rows", "labels"),
    _gate("leak", "each input with the label: no input may predict it alone", "rows", "labels"),
    _gate("test rows", "test rows with training rows: no row may be in both", "rows"),
    _gate("groups", "the groups of test rows with those of training rows", "rows"),
    _gate("future", "the times of training rows with those of test rows", "rows"),
    _gate("sides", "its inputs with the split: no input may show the side of a row", "rows"),
    _gate("numbers", "its inputs with row numbers: no input may number the rows", "rows"),
    _gate("leaks", "its inputs and rows with all kinds of leaks: the finding if there is none", "rows", "labels"),
    _gate("signature", "its signature with that of the champion", "package", "champion"),
    _gate("answers", "its predictions with finite numbers and probabilities", "rows"),
    _gate("determinism", "its predictions with those of a second request for the same rows", "rows"),
    _gate("package", "its predictions in a fresh process with those in the training process", "package"),
    _gate("lock", "the modules that its package imports with its lock", "package"),
    _gate("latency", "the time of a prediction with the limit of its policy", "package"),
    _gate("memory", "the memory of its package with the limit of its policy", "package"),
    _gate("size", "the size of its package with the limit of its policy", "package"),
    _gate(
        "thresholds", "its metrics on test rows with the limits of its policy; a finding per metric", "rows", "labels"
    ),
    _gate("metrics", "its metrics with those of the champion on the same test rows", "rows", "labels", "champion"),
    _gate("baseline", "its loss with that of the trivial baseline", "rows", "labels"),
    _gate(
        "champion",
        "its loss with that of the champion on rows that neither was trained on",
        "rows",
        "labels",
        "champion",
    ),
    _gate("slices", "its loss with that of the champion on each slice", "rows", "labels", "champion"),
    CheckInfo(
        name="package",
        stage="gate",
        subject="candidate",
        needs=("package",),
        about="its predictions in a fresh process with those in the training process; lock, time, memory and size",
        actions=("proceed", "stop"),
    ),
    CheckInfo(
        name="traffic",
        stage="canary",
        subject="challenger",
        needs=("predictions", "labels", "champion"),
        about="its shadow predictions with the champion's predictions, on the champion's labelled rows of the canary",
        actions=("promote", "rollback", "hold"),
    ),
    _watch(
        "performance",
        "a metric on labelled predictions with its value at release",
        "predictions",
        "labels",
        actions=("proceed", "hold"),
    ),
    _watch(
        "drift",
        "the inputs of its predictions with its training rows",
        "predictions",
        "training rows",
        actions=("proceed", "hold"),
    ),
    _watch("age", "the days since its newest training row with the limit", "time"),
    _watch("silence", "the days since its last prediction with the limit", "time"),
)


def find_check(name: str) -> CheckInfo | None:
    """Return the check that stores verdicts under a name; None for a check of a project."""
    return next((check for check in CHECKS if check.name == name and not check.part_of), None)


def find_stage_checks(stage: CheckStage) -> tuple[CheckInfo, ...]:
    """Return the checks of a stage that store verdicts of their own."""
    return tuple(check for check in CHECKS if check.stage == stage and not check.part_of)
