"""Regimes: judges whether the champion fits the newest rows, and which earlier release fits them better."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.checks.regime import ErrorProfile, InputFit, RegimeDecision, RegimeWindow, Settings, decide
from tidemill.checks.regime_inputs import compare_inputs, may_have_changed, read_inputs
from tidemill.core.check import Action, Outcome, Verdict
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import JournalReader, Packages
from tidemill.core.route import Arm
from tidemill.data.arrays import Floats
from tidemill.data.statistics import Profile
from tidemill.errors import TidemillError
from tidemill.monitoring.newest_rows import count_labelled, read_newest_rows
from tidemill.monitoring.stored_releases import StoredRelease, has_learned, load_release
from tidemill.monitoring.windows import unpack_features
from tidemill.registry.regimes import Episode

T = TypeVar("T")
Examine = Callable[[str, StoredRelease], str]
"""Returns why a release, by its label, cannot be recalled, or an empty text."""


class RegimeCase(NamedTuple):
    """The champion, the earlier releases that can be recalled (the preferred first), and the new regime, if any.

    `start` is the time of the first row of the champion's regime, if it is known: older rows are not compared.
    `requests` are the labelled rows of the current regime at each request of a training, the newest first. `replaced`
    is the release that the champion replaced, if the champion was recalled.
    """

    champion: Arm
    stored: Sequence[Arm]
    episode: Episode | None = None
    start: datetime | None = None
    requests: Sequence[int] = ()
    replaced: str = ""


def judge_regime(
    policy: ModelPolicy,
    case: RegimeCase,
    packages: Packages,
    journal: JournalReader,
    now: datetime,
    examine: Examine,
) -> Verdict:
    """Return the verdict on the regime of the newest rows: it proceeds, recalls a release, or waits for a new model.

    A release that fits is examined before it is recalled; if `examine` refuses it, the next one that fits is recalled.
    """
    rows = read_newest_rows(journal, policy, now, case.start)
    if rows.is_empty():
        return _create_verdict(case, "undecided", "hold", "there are no predictions yet", {"rows": 0})
    champion = load_release(packages, case.champion.package)
    stored = _Stored(case.stored[: policy.regimes.candidates], packages)
    window = _open_window(rows, case.champion.release, champion, stored)._replace(replaced=case.replaced)
    settings = Settings(policy.regimes.evidence, policy.regimes.novel, policy.regimes.features, policy.problem.task)

    def find_errors(label: str) -> ErrorProfile | None:
        if label != case.champion.release:
            return stored.find_errors(label)
        try:
            return champion.errors
        except TidemillError:
            return None

    while True:
        decision = decide(case.champion.release, stored.labels, find_errors, window, settings)
        release = stored.find(decision.release) if decision.outcome == "recall" else None
        if release is None:
            break
        if not (problem := examine(decision.release, release)):
            break
        stored.refused[decision.release] = problem
    evidence = _describe(decision, rows, stored.refused)
    if case.start is not None:
        evidence["start"] = case.start.isoformat()
    if decision.outcome == "fits":
        grown = _find_growth(case, policy, journal, now)
        return grown or _describe_fit(case, champion, decision, rows, evidence)
    changed_at = rows["known_at"][decision.start]
    assert isinstance(changed_at, datetime)
    evidence["start"] = changed_at.isoformat()
    if decision.outcome == "recall":
        return _create_recall(case, decision, rows.height - decision.start, evidence)
    return _create_novel(case, policy, journal, decision, changed_at, now, evidence)


class _Stored:
    """The releases that can be recalled; each is loaded when it is compared, and `refused` if it cannot be."""

    def __init__(self, arms: Sequence[Arm], packages: Packages) -> None:
        self._arms = {arm.release: arm for arm in arms}
        self._packages = packages
        self.refused: dict[str, str] = {}

    @property
    def labels(self) -> list[str]:
        return [label for label in self._arms if label not in self.refused]

    def find(self, label: str) -> StoredRelease | None:
        try:
            return load_release(self._packages, self._arms[label].package)
        except TidemillError as error:
            self.refused[label] = error.problem
            return None

    def find_errors(self, label: str) -> ErrorProfile | None:
        """Return the error profile of a release; None if it has none, or if it cannot be read."""
        return self._read(label, lambda release: release.errors)

    def find_inputs(self, label: str) -> Profile | None:
        """Return the profile of the training rows of a release; None if it cannot be read."""
        return self._read(label, lambda release: release.inputs)

    def _read(self, label: str, read: Callable[[StoredRelease], T | None]) -> T | None:
        release = self.find(label)
        try:
            return read(release) if release else None
        except TidemillError as error:
            self.refused[label] = error.problem
            return None


def _open_window(rows: pl.DataFrame, label: str, champion: StoredRelease, stored: _Stored) -> RegimeWindow:
    features, truth = unpack_features(rows), rows["truth"]
    labelled = truth.is_not_null().to_numpy()
    labelled_features, labels = features.filter(labelled), truth.filter(labelled)
    computed: dict[str, Floats | None] = {}

    def compute_losses(release: str) -> Floats | None:
        if release not in computed:
            package = champion if release == label else stored.find(release)
            try:
                computed[release] = package.compute_losses(labelled_features, labels) if package else None
            except Exception as error:  # noqa: BLE001 - a package of another version can fail in any way
                stored.refused[release] = f"it cannot predict the newest rows: {getattr(error, 'problem', error)}"
                computed[release] = None
        return computed[release]

    inputs = read_inputs(features, champion.inputs)

    def compare(names: Sequence[str]) -> list[InputFit]:
        found = []
        for name in names:
            other, profile = stored.find(name), stored.find_inputs(name)
            fit = compare_inputs(inputs, champion.inputs, [profile])[0] if profile else InputFit(0.0, 0, fits=False)
            fits = other is not None and fit.fits and not has_learned(champion, other)
            found.append(fit._replace(fits=fits))
        return found

    return RegimeWindow(
        labelled=np.asarray(labelled, dtype=bool),
        losses=compute_losses,
        inputs=compare,
        inputs_changed=lambda: may_have_changed(inputs, champion.inputs),
    )


def _describe(decision: RegimeDecision, rows: pl.DataFrame, refused: dict[str, str]) -> dict[str, Any]:
    evidence: dict[str, Any] = {
        "rows": rows.height,
        "labelled": int(rows["truth"].count()),
        "evidence": round(decision.evidence, 3),
        "by": decision.by,
    }
    if decision.tried:
        evidence["loss"] = decision.loss
        evidence["compared"] = [
            {"release": tried.release, "loss": tried.loss, "fits": tried.fits} for tried in decision.tried
        ]
    return evidence | ({"refused": refused} if refused else {})


def _describe_fit(
    case: RegimeCase, champion: StoredRelease, decision: RegimeDecision, rows: pl.DataFrame, evidence: dict[str, Any]
) -> Verdict:
    if champion.errors is None and rows["truth"].null_count() != rows.height:
        reason = "its package has no error profile (it was trained by an earlier version): train it again"
        return _create_verdict(case, "undecided", "hold", reason, evidence)
    if decision.tried:
        reason = f"its losses on the newest {evidence['labelled']} labelled rows are not proof of a new regime yet"
        return _create_verdict(case, "undecided", "hold", reason, evidence)
    labelled = evidence["labelled"]
    basis = f"the newest {labelled} labelled rows" if labelled else f"the newest {rows.height} rows (without labels)"
    return _create_verdict(case, "pass", "proceed", f"it fits {basis}", evidence)


def _find_growth(case: RegimeCase, policy: ModelPolicy, journal: JournalReader, now: datetime) -> Verdict | None:
    """Return a verdict that requests a training if the labelled rows of a new regime have doubled since the last."""
    if case.start is None or not 0 < len(case.requests) <= policy.regimes.refits:
        return None
    labelled = count_labelled(journal, policy, case.start, now)
    if labelled < 2 * case.requests[0]:
        return None
    reason = f"its regime has {labelled} labelled rows, twice as many as at its training"
    evidence = {"start": case.start.isoformat(), "of_regime": labelled}
    return _create_verdict(case, "warn", "retrain", reason, evidence)


def _create_recall(case: RegimeCase, decision: RegimeDecision, rows: int, evidence: dict[str, Any]) -> Verdict:
    if decision.by == "labels":
        loss = next(tried.loss for tried in decision.tried if tried.release == decision.release)
        reason = (
            f"{decision.release} fits the rows since {evidence['start'][:19]}, and {case.champion.release} does not: "
            f"loss {loss:.4f} against {decision.loss:.4f}"
        )
    else:
        reason = f"the inputs of the newest {rows} rows are those of {decision.release}, not of {case.champion.release}"
    verdict = _create_verdict(case, "fail", "recall", reason, evidence)
    return replace(verdict, reference=decision.release)


def _create_novel(
    case: RegimeCase,
    policy: ModelPolicy,
    journal: JournalReader,
    decision: RegimeDecision,
    changed_at: datetime,
    now: datetime,
    evidence: dict[str, Any],
) -> Verdict:
    """Return the verdict on a new regime: collect its rows, then request a training, and again after twice as many."""
    episode = case.episode or Episode(since=changed_at)
    labelled = count_labelled(journal, policy, episode.since, now)
    due = max(policy.regimes.minimum, 2 * (case.requests[0] if case.requests else 0))
    action: Action = "retrain" if labelled >= due else "hold" if case.requests else "collect"
    compared = (
        f"none of {len(decision.tried)} earlier releases fits" if decision.tried else "there is no earlier release"
    )
    reason = f"new regime since {episode.since:%Y-%m-%d %H:%M:%S}: the loss is {decision.loss:.4f}, and {compared}; "
    reason += {
        "retrain": f"{labelled} labelled rows of it request a training",
        "hold": f"a training was requested; the next one after {due} labelled rows (now {labelled})",
    }.get(action, f"{labelled} of {due} labelled rows for a training")
    found = {"start": episode.since.isoformat(), "novel": to_builtins(episode), "of_regime": labelled}
    return _create_verdict(case, "fail", action, reason, evidence | found)


def _create_verdict(
    case: RegimeCase, outcome: Outcome, action: Action, reason: str, evidence: dict[str, Any]
) -> Verdict:
    return Verdict(
        check="regime",
        subject=case.champion.release,
        outcome=outcome,
        action=action,
        reason=reason,
        evidence=evidence,
    )
