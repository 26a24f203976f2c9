"""The checks that store verdicts: what each compares, what it needs, and its actions. Register a new check here.

The checks of the gate add findings to one verdict: they are registered in `tidemill.recipes.gating`.
"""

from typing import Literal

from msgspec import Struct

from tidemill.core.check import Action

CheckSubject = Literal["batch", "candidate", "challenger", "champion", "commit", "lock", "build"]
CheckStage = Literal["ingestion", "gate", "canary", "watch", "ci", "deployment"]
CheckNeed = Literal[
    "rows", "schema", "champion", "package", "labels", "predictions", "training rows", "time", "commit", "build"
]


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


def _watch(name: str, about: str, *needs: CheckNeed, actions: tuple[Action, ...] = ("proceed",)) -> CheckInfo:
    return CheckInfo(name=name, stage="watch", subject="champion", needs=needs, about=about, actions=actions)


def _ci(name: str, about: str) -> CheckInfo:
    return CheckInfo(
        name=name, stage="ci", subject="commit", needs=("commit",), about=about, actions=("proceed", "stop")
    )


def _deployment(name: str, about: str) -> CheckInfo:
    return CheckInfo(
        name=name, stage="deployment", subject="build", needs=("build",), about=about, actions=("proceed", "stop")
    )


def deployment_finding(name: str, about: str, part_of: str) -> CheckInfo:
    """Describe a finding of a check of a deployment."""
    return CheckInfo(name=name, stage="deployment", subject="build", needs=("build",), about=about, part_of=part_of)


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
        about="its losses with the champion's on the rows that both predicted; its failures, times and predictions",
        actions=("promote", "step", "rollback", "hold"),
    ),
    CheckInfo(
        name="answers",
        stage="canary",
        subject="champion",
        needs=("predictions",),
        about="the rows that it failed to answer with the limit, in a canary or in the last day",
        actions=("experiment",),
    ),
    _watch(
        "performance",
        "a metric on labelled predictions with its value at release and on earlier live labels",
        "predictions",
        "labels",
        actions=("proceed", "hold"),
    ),
    _watch(
        "drift",
        "the inputs of its predictions with its training rows, or with earlier live windows",
        "predictions",
        "training rows",
        actions=("proceed", "hold", "experiment"),
    ),
    _watch(
        "regime",
        "its losses and inputs on the newest rows with its own at release, and with those of earlier releases",
        "predictions",
        "labels",
        actions=("proceed", "hold", "collect", "retrain", "recall"),
    ),
    _watch(
        "binding",
        "the losses of a release for one value of the key with those of the champion, and before of one of all rows",
        "predictions",
        "labels",
        actions=("proceed", "hold", "stop", "rollback"),
    ),
    _watch(
        "retraining",
        "the retrainings in a row that did not help with the limit, when another one is due",
        "predictions",
        actions=("experiment",),
    ),
    _watch(
        "change",
        "the losses of its newest labelled predictions with those just before, by ADWIN or Page-Hinkley",
        "predictions",
        "labels",
        actions=("proceed", "hold"),
    ),
    _watch(
        "learning",
        "how long labels wait until a release that has learned them answers with the limit",
        "predictions",
        "labels",
        actions=("proceed", "hold"),
    ),
    _watch("age", "the days since its newest training row with the limit", "time"),
    _watch(
        "growth",
        "the time since its newest training row, as a share of that of its training rows, with the limit",
        "time",
    ),
    _watch("silence", "the days since its last prediction with the limit", "time"),
    _ci("ci_environment", "its lock with the packages that can be installed together"),
    _ci("ci_project", "its policy and code with the rules of a project: every pipeline can be planned"),
    _ci("ci_tests", "the results of its tests, in a process with limits, with all of them passed"),
    _ci("ci_security", "its files and its lock with unsafe pickles, secrets and known vulnerabilities"),
    _ci("ci_signature", "the container image with the key of the project, which signs it"),
    _ci("ci_image", "the container image that is wanted with the one that was made and pushed"),
    CheckInfo(
        name="upgrade_equivalence",
        stage="ci",
        subject="lock",
        needs=("training rows",),
        about="the answers and metrics of the reference training in its environment with those before it",
        actions=("proceed", "stop"),
    ),
    _ci("ci", "the results of all checks of the commit with all of them passed"),
    _deployment("promotion", "its CI, approvals, runs, soak and time with the rules of the environment"),
    _deployment("infrastructure", "the Python, packages, memory and accelerator of the target with those required"),
    _deployment("service", "its health, its predictions of sample rows and its speed with those before and the limits"),
)


def gate_finding(name: str, about: str, *needs: CheckNeed) -> CheckInfo:
    """Describe a finding of a check of the gate."""
    return CheckInfo(name=name, stage="gate", subject="candidate", needs=needs, about=about, part_of="gate")


def find_check(name: str) -> CheckInfo | None:
    """Return the check that stores verdicts under a name; None for a check of a project."""
    return next((check for check in CHECKS if check.name == name), None)


def find_stage_checks(stage: CheckStage) -> tuple[CheckInfo, ...]:
    """Return the checks of a stage."""
    return tuple(check for check in CHECKS if check.stage == stage)
