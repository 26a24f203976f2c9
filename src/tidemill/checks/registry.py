"""The list of checks: what each judges, what it needs, and what it can call for. A new check registers here."""

from typing import Literal

from msgspec import Struct

from tidemill.core.check import Action

CheckSubject = Literal["batch", "candidate", "challenger", "champion"]
CheckStage = Literal["ingestion", "gate", "canary", "watch"]
CheckNeed = Literal["rows", "schema", "champion", "package", "labels", "predictions", "training rows", "time"]


class CheckInfo(Struct, frozen=True, kw_only=True):
    """A check by the name of its verdicts; one that is `part_of` another contributes a finding to its verdict.

    A check of the watch takes the action that its policy names, besides its own `actions`.
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
        """Whether it fires by the passing of time alone."""
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
        about="its losses on test rows with those of the trivial baseline and of the champion; and all of its parts",
        actions=("proceed", "collect", "stop"),
    ),
    _gate("data", "its training rows with stopped batches, and with the age of the champion's rows", "rows"),
    _gate("classes", "the classes of newer rows with those that it has learned", "rows", "labels"),
    _gate("leaks", "each input with the label: one input alone must not predict it", "rows", "labels"),
    _gate("sides", "its inputs with the split: none may name the side of a row", "rows"),
    _gate("groups", "the groups of test rows with those of training rows", "rows"),
    _gate("future", "the times of training rows with those of test rows", "rows"),
    _gate("signature", "its signature with that of the champion", "package", "champion"),
    _gate("answers", "its predictions with finite numbers and probabilities", "rows"),
    _gate("determinism", "its predictions with those to the same rows, asked again", "rows"),
    _gate("lock", "the modules that its package imports with its lock", "package"),
    _gate("thresholds", "its metrics on test rows with the limits of its policy", "rows", "labels"),
    _gate("baseline", "its loss with that of the trivial baseline", "rows", "labels"),
    _gate("champion", "its loss with that of the champion on rows that neither has seen", "rows", "labels", "champion"),
    _gate("slices", "its loss with that of the champion on each slice", "rows", "labels", "champion"),
    CheckInfo(
        name="package",
        stage="gate",
        subject="candidate",
        needs=("package",),
        about="its predictions in a fresh process with those where it was made; its lock, time, memory and size",
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
    """The check that stores verdicts under that name; None where only a project knows it."""
    return next((one for one in CHECKS if one.name == name and not one.part_of), None)


def find_stage_checks(stage: CheckStage) -> tuple[CheckInfo, ...]:
    """The checks of a stage that store verdicts of their own."""
    return tuple(one for one in CHECKS if one.stage == stage and not one.part_of)
