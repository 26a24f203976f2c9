"""The checks of the gate, in their order: each takes what it needs of a case, and returns its findings."""

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import polars as pl

from tidemill.checks.comparison import compare, hold_thresholds
from tidemill.checks.gate import Finding
from tidemill.checks.leaks import find_leaks
from tidemill.checks.package import check_probe, check_signature_change
from tidemill.core.metric import MetricVersion
from tidemill.core.model import Model
from tidemill.core.policy import ModelPolicy
from tidemill.core.probe import PackageProbe
from tidemill.core.resources import ProjectMetrics, TableReader
from tidemill.core.run import Metrics
from tidemill.core.source import Source
from tidemill.data.frame import TIME
from tidemill.data.keys import to_class_names
from tidemill.data.metrics import losses
from tidemill.data.split import kind_of
from tidemill.recipes.champion import check_champion
from tidemill.recipes.scoring import Candidate, score_samples
from tidemill.training.evaluate import filter_classes, find_slices, predict_baseline, to_truth


class SplitRows(NamedTuple):
    """The rows of one training: those it learns from, those it chooses on (if any), and those it is tested on."""

    train: pl.DataFrame
    validation: pl.DataFrame | None
    test: pl.DataFrame

    @property
    def learned(self) -> pl.DataFrame:
        """What the model has seen: what was chosen on validation rows is learned from them, too."""
        return self.train if self.validation is None else pl.concat([self.train, self.validation])

    @property
    def held_out(self) -> pl.DataFrame:
        """What its estimator was not fitted on."""
        return self.test if self.validation is None else pl.concat([self.validation, self.test])


class Case(NamedTuple):
    """A candidate at the gate, and all that its checks may need."""

    candidate: Candidate
    champion: Model | None
    rows: SplitRows
    policy: ModelPolicy
    source: Source
    stopped: tuple[str, ...]
    tested: Metrics
    probe: PackageProbe
    metrics: list[MetricVersion]
    own_metrics: ProjectMetrics
    tables: TableReader


def check_data(champion: Model | None, rows: SplitRows, stopped: tuple[str, ...], policy: ModelPolicy) -> list[Finding]:
    """Whether a candidate may learn from these rows: no batch was stopped, and they are not older than before."""
    found = []
    if stopped:
        some = ", ".join(stopped[:3])
        reason = f"it is trained on data that was stopped: {some} (see `tidemill checks list`)"
        found.append(Finding(about="data", outcome="fail", reason=reason, evidence={"stopped_batches": list(stopped)}))
    before = champion.manifest.trained_on.trained_until if champion else None
    if before is not None and not policy.gate.older_data:
        times = rows.learned[TIME]
        newest = (pl.concat([times, rows.test[TIME]]) if policy.training.refit else times).max()
        if isinstance(newest, datetime) and newest < before:
            ends, until = newest.isoformat(), before.isoformat()
            reason = f"its data is older than the champion's: it ends at {ends}, not at {until}"
            evidence = {"data_until": ends, "champion_data_until": until}
            found.append(Finding(about="data", outcome="fail", reason=reason, evidence=evidence))
    return found


def check_classes(candidate: Candidate, rows: SplitRows, policy: ModelPolicy) -> list[Finding]:
    """Whether the rows that were held out have classes that came only after the training rows."""
    known, label, held = candidate.model.manifest.signature.classes, policy.problem.label, rows.held_out
    left = held.height - filter_classes(held, label, known).height
    if not left:
        return []
    new = sorted(set(to_class_names(held[label])) - set(known))
    reason = f"{left} of {held.height} newer rows are left out: their class is not learned yet ({', '.join(new[:3])})"
    return [Finding(about="classes", outcome="warn", reason=reason, evidence={"unlearned": new, "left_out": left})]


def check_leaks(candidate: Candidate, rows: SplitRows, source: Source, policy: ModelPolicy) -> list[Finding]:
    """Whether an input tells the label, or test rows are among the learned rows or after them."""
    return find_leaks(
        rows.learned,
        rows.test,
        inputs=tuple(one.name for one in candidate.model.manifest.signature.inputs),
        label=policy.problem.label,
        key=source.key,
        group=policy.training.group,
        timed=kind_of(policy.training, timed=bool(source.time)) == "time",
        most=policy.gate.leakage,
    )


def check_signature(candidate: Candidate, champion: Model | None, policy: ModelPolicy) -> list[Finding]:
    """Whether requests for the champion fit the candidate."""
    deployed = champion.manifest.signature if champion else None
    return check_signature_change(deployed, candidate.model.manifest.signature, policy.gate)


def check_answers(candidate: Candidate) -> list[Finding]:
    """Whether its answers are finite numbers or probabilities, and the same when it is asked again."""
    return candidate.answers


def check_package(candidate: Candidate, probe: PackageProbe, policy: ModelPolicy) -> list[Finding]:
    """Whether the package answers in a fresh process as here; not asked where its answers here differ or fail."""
    if candidate.answers[0].about != "answers":
        return []
    return check_probe(probe, score_samples(candidate.model), policy.gate)


def check_thresholds(tested: Metrics, policy: ModelPolicy) -> list[Finding]:
    """Whether the metrics of the test rows keep the policy's thresholds."""
    return hold_thresholds(tested.values, policy.gate, tested.intervals)


def check_baseline(candidate: Candidate, champion: Model | None, rows: SplitRows, policy: ModelPolicy) -> list[Finding]:
    """Whether it is better than the trivial baseline; on each slice, too, where there is no champion yet."""
    if not candidate.measurable:
        return []
    truth = candidate.truth
    known = to_truth(rows.train[policy.problem.label], policy.problem.task, truth.classes)
    baseline = losses(truth, predict_baseline(known, candidate.rows.height))
    slices = find_slices(candidate.rows, policy.gate.slices)
    return compare(candidate.losses, baseline, None, policy=policy.gate, slices=slices if champion is None else {})


# In this order: where all pass, the last finding is the verdict's reason.
GATE_CHECKS: tuple[Callable[..., list[Finding]], ...] = (
    check_data,
    check_classes,
    check_leaks,
    check_signature,
    check_answers,
    check_package,
    check_thresholds,
    check_baseline,
    check_champion,
)


def run_checks(case: Case) -> list[Finding]:
    """The findings of all checks of the gate; each gets the fields of the case that its parameters name."""
    findings: list[Finding] = []
    for check in GATE_CHECKS:
        findings += check(**{need: getattr(case, need) for need in inspect.signature(check).parameters})
    return findings
